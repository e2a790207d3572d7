"""What all views have in common: being shown and hidden, facts coming in, requests going out.

A view is a widget in the main screen. It never reads files and never changes anything: facts come
as `*_seen` calls (from the feeds, through the app) or from `read`, which runs a function in a
thread; what a person wants changed goes out as a `Request` through `do`.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

from textual.widget import Widget

from holdfast_tui import keymap
from holdfast_tui.keys.key import Key
from holdfast_tui.model.jobs import JobBoard
from holdfast_tui.model.request import Request, Target
from holdfast_tui.model.snapshots import Catalogue
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import TaskBoard
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.pane import Painted
from holdfast_tui.widgets.rowlist import RowList

Result = TypeVar("Result")


class View(Painted):
    """One screenful. Subclasses compose panes and override what they need.

    Attributes:
        VIEW: its name; also of its table of keys.
        TITLE: for the bar of views, the help page and the palette.
        HELP: three lines for the help page.
        store_name: of the store that upper-case keys would change; empty for none yet.
    """

    VIEW: ClassVar[str] = ""
    TITLE: ClassVar[str] = ""
    HELP: ClassVar[str] = ""
    DEFAULT_CSS = """
    View { layout: vertical; height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__(id=f"view-{self.VIEW}")
        self.store_name = ""
        self.is_shown = False

    # For subclasses -------------------------------------------------------------------------------

    def shown(self) -> None:
        """The view has come to the front; facts of the feeds have just been given to it."""

    def hidden(self) -> None:
        """Another view has come to the front."""

    def open_target(self, target: Target) -> None:
        """Show this: a snapshot, a task, a job ... Called after `shown`."""

    def tasks_seen(self, board: TaskBoard) -> None:
        """The journal changed, or the view has come to the front."""

    def jobs_seen(self, board: JobBoard) -> None:
        """The configured jobs changed."""

    def stores_seen(self, stores: Sequence[StoreFacts]) -> None:
        """The stores changed; all of them, in the configuration's order."""

    def catalogue_seen(self, catalogue: Catalogue) -> None:
        """Snapshots of one store were read, perhaps only the first part."""

    def crumbs(self) -> str:
        """Where one is, for the first line: `main > prod > host/web1`."""
        return self.store_name or self.TITLE.lower()

    def twin(self) -> Sequence[str] | None:
        """The command line that shows the same: words after `holdfast`, without global options."""
        return None

    def twin_store(self) -> str | None:
        """The store the twin works on."""
        return self.store_name or None

    def copy_text(self) -> str:
        """The name under the cursor, for the clipboard."""
        return ""

    def leave_state(self) -> bool:
        """Esc: close what is open inside the view; whether there was anything."""
        focused = self.hold.focused
        return focused.leave_state() if isinstance(focused, RowList) else False

    def reload(self) -> None:
        """ctrl+r: read everything again."""
        self.hold.look_soon()

    def plain(self) -> str:
        """What the view shows, as text: for tests, :speak and terminals that are too small."""
        return "\n\n".join(
            text
            for pane in self.query(Painted)
            if pane.display and (text := pane.plain()) and self._is_displayed(pane)
        )

    # What subclasses use --------------------------------------------------------------------------

    def do(self, request: Request) -> None:
        """Ask if needed, then let a worker or child do it, and say what became of it."""
        self.hold.do(request)

    def say(self, text: str, style: str = "text") -> None:
        """One line in the message row."""
        self.hold.say(text, style)

    def read(
        self,
        work: Callable[[], Result],
        then: Callable[[Result], None],
        *,
        failed: Callable[[Exception], None] | None = None,
        group: str = "read",
    ) -> None:
        """Run `work` in a thread and `then` with its result on the event loop.

        A newer call with the same `group` makes the older one's result worthless: it is dropped.
        HoldfastError and OSError go to `failed`, or into the message row.
        """
        number = self._turns.get(group, 0) + 1
        self._turns[group] = number

        async def run() -> None:
            from holdfast.errors import HoldfastError

            try:
                result = await asyncio.to_thread(work)
                answer = partial(then, result)
            except (HoldfastError, OSError) as error:
                answer = partial(failed or self.hold.say_error, error)
            if self._turns.get(group) == number and self.is_attached:
                answer()

        self.hold.background(run, group=f"{self.VIEW}-{group}")

    @property
    def _turns(self) -> dict[str, int]:
        turns: dict[str, int] = self.__dict__.setdefault("_read_turns", {})
        return turns

    def refusal(self) -> str:
        """Why nothing can be changed here: started read-only, or the store is not writable."""
        if self.hold.gate.read_only:
            return self.hold.gate.read_only
        facts = self.hold.store_facts.get(self.store_name)
        return "" if facts is None else facts.refusal

    def panes(self) -> list[Widget]:
        """What tab goes through, in order."""
        return [
            widget
            for widget in self.query(Widget)
            if widget.can_focus and widget.display and self._is_displayed(widget)
        ]

    def _is_displayed(self, widget: Widget) -> bool:
        node: Any = widget
        while node is not None and node is not self:
            if not node.display:
                return False
            node = node.parent
        return True

    def focus_first(self) -> None:
        """Focus the first pane, unless one has the focus already."""
        panes = self.panes()
        if panes and self.hold.focused not in panes:
            panes[0].focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Upper-case keys do not exist where nothing may be changed."""
        del parameters
        key = keymap.of_action(action, (self.VIEW,))
        if key is None:
            return True
        return not self.blocked(key)

    def blocked(self, key: Key) -> str:
        """Why the key does nothing now; empty when it does something."""
        reason = self.hold.gate.refusal(key)
        if not reason and key.mutates and (refusal := self.refusal()):
            reason = f"read-only: {key.label} is off ({refusal})"
        return reason

    def tables(self) -> tuple[str, ...]:
        """Tables of keys that count here, nearest first."""
        focused = self.hold.focused
        lists: tuple[str, ...] = ()
        if isinstance(focused, Painted) and focused.can_focus and not isinstance(focused, LinePane):
            lists = ("list",)
        if isinstance(focused, RowList) and focused.marks_allowed:
            lists = ("list", "marks")
        return (*lists, self.VIEW, "app")
