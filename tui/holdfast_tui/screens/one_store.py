"""For views of one store at a time, shown in parts: h and l change the store, [ and ] the part."""

from collections.abc import Sequence

from textual.events import Resize

from holdfast_tui.model.snapshots import Catalogue
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.screens.long_reads import LongReads
from holdfast_tui.widgets.parts import Parts

WIDE, HIGH = 100, 30  # from here on all parts have room


class OneStore(LongReads):
    """Subclasses make `parts`, and say what another store and a redraw mean.

    Attributes:
        stores: all of them.
        parts: what is below the pane of the store.
    """

    HIGH_FACTS = HIGH  # lines from which on the pane above the parts is higher
    parts: Parts

    def __init__(self) -> None:
        super().__init__()
        self.stores: list[StoreFacts] = []

    def another_store(self) -> None:
        """`store_name` is another one than before."""
        raise NotImplementedError

    def show_all(self) -> None:
        """Draw every part again."""
        raise NotImplementedError

    @property
    def catalogue(self) -> Catalogue | None:
        return self.hold.catalogues.get(self.store_name)

    @property
    def store_note(self) -> str:
        """`store 2 of 3, hl`; empty for the only one."""
        names = [facts.name for facts in self.stores]
        if len(names) < 2 or self.store_name not in names:  # noqa: PLR2004  # nothing to change to
            return ""
        return f"store {names.index(self.store_name) + 1} of {len(names)}, hl"

    def choose_store(self, name: str) -> None:
        """This one, unless it is shown already."""
        if name and name != self.store_name:
            self.store_name = name
            self.another_store()

    def keep_store(self, stores: Sequence[StoreFacts], first: str) -> None:
        """Take the stores as they are now; `first` when the one that was shown is gone."""
        self.stores = list(stores)
        if self.store_name not in [facts.name for facts in stores]:
            self.store_name = first
            self.another_store()

    def action_tab(self, step: int) -> None:
        self.parts.step(step)
        self.call_after_refresh(self.show_all)  # once its width is known

    def action_store(self, step: int) -> None:
        names = [facts.name for facts in self.stores]
        if len(names) < 2:  # noqa: PLR2004  # nothing to change to
            self.say("there is no other store")
            return
        self.choose_store(names[(names.index(self.store_name) + step) % len(names)])

    def on_resize(self, event: Resize) -> None:
        del event
        self.fit()

    def fit(self) -> None:
        """All parts where there is room for them, else one at a time."""
        size = self.hold.size
        self.set_class(size.height >= self.HIGH_FACTS, "-high")
        self.parts.fit(small=size.width < WIDE or size.height < HIGH)
        self.call_after_refresh(self.show_all)
