"""What feeds tell the app. Frozen facts; newer ones replace those nobody has looked at yet."""

from textual.message import Message

from holdfast_tui.model.jobs import JobBoard
from holdfast_tui.model.snapshots import Catalogue
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import TaskBoard


class TasksSeen(Message):
    """The journal was read again."""

    def __init__(self, board: TaskBoard) -> None:
        super().__init__()
        self.board = board

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, TasksSeen)


class JobsSeen(Message):
    """The configuration and what is remembered of its jobs were read again."""

    def __init__(self, board: JobBoard) -> None:
        super().__init__()
        self.board = board

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, JobsSeen)


class StoreSeen(Message):
    """One store was looked at again."""

    def __init__(self, facts: StoreFacts) -> None:
        super().__init__()
        self.facts = facts

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, StoreSeen) and message.facts.name == self.facts.name


class CatalogueSeen(Message):
    """Snapshots of a store were read, all of them or the first part."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self.catalogue = catalogue

    def can_replace(self, message: Message) -> bool:
        return (
            isinstance(message, CatalogueSeen) and message.catalogue.store == self.catalogue.store
        )


class Said(Message):
    """One line for the message row.

    Attributes:
        style: of the palette, such as `good`, `warn` or `bad`.
    """

    def __init__(self, text: str, style: str = "text") -> None:
        super().__init__()
        self.text = text
        self.style = style
