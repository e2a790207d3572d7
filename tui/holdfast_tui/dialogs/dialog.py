"""A box in the middle of the screen that wants an answer; esc always gives up."""

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, cast

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget

if TYPE_CHECKING:
    from holdfast_tui.app import HoldfastApp

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer], Generic[Answer]):
    """Subclasses give their widgets in `body`; `dismiss(answer)` ends it."""

    TITLE = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "give up", show=False),
        Binding("ctrl+c", "give_up", "give up", show=False),
    ]
    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > #box {
        width: 90%; max-width: 92; height: auto; max-height: 90%;
        border: round $rule-focus; background: $background; padding: 0 1;
        border-title-color: $pane-title; border-title-style: bold;
        border-subtitle-color: $faint;
    }
    Dialog.-ascii > #box { border: ascii $rule-focus; }
    Dialog:ansi { background: ansi_default; }
    """

    def __init__(self, title: str, hint: str = "esc gives up") -> None:
        super().__init__()
        self._box_title = title
        self._hint = hint
        self._is_answered = False

    @property
    def hold(self) -> "HoldfastApp":
        return cast("HoldfastApp", self.app)

    def body(self) -> list[Widget]:
        """What is in the box, from top to bottom."""
        return []

    def compose(self) -> ComposeResult:
        from rich.markup import escape

        from holdfast_tui.render.clean import clean

        box = Vertical(*self.body(), id="box")
        box.border_title = escape(clean(self._box_title))
        box.border_subtitle = escape(self._hint)
        yield box

    def on_mount(self) -> None:
        self.set_class(not self.hold.look.unicode, "-ascii")
        if not self._is_answered:  # a key that was typed ahead may have closed it already
            self.ready()

    def ready(self) -> None:
        """Everything is mounted."""

    @property
    def is_over(self) -> bool:
        """Answered: it is being taken apart."""
        return self._is_answered

    def dismiss(self, result: Answer | None = None) -> AwaitComplete:
        """Answer once, and only from the top; keys that were typed ahead close nothing else."""
        if self._is_answered or self.hold.screen is not self:
            return AwaitComplete()
        self._is_answered = True
        return super().dismiss(result)

    def action_give_up(self) -> None:
        self.dismiss(None)
