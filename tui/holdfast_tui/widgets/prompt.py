"""The last row but one: a message, or a line to type (a filter, a pattern, a path)."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input

from holdfast_tui.render.clean import clean
from holdfast_tui.widgets.linepane import LinePane


class LineInput(Input):
    """One line of typing without a frame. Esc gives up; up and down belong to whoever asked."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", show=False)]
    DEFAULT_CSS = """
    LineInput, LineInput:focus {
        border: none; height: 1; padding: 0; background: $background; color: $foreground;
    }
    """

    def __init__(self, on_give_up: Callable[[], None], **more: str) -> None:
        super().__init__(id=more.get("id"), compact=True, select_on_focus=False)
        self.cursor_blink = False
        self.can_focus = self.id is not None  # the one of the message row only while it asks
        self._on_give_up = on_give_up

    def action_give_up(self) -> None:
        self._on_give_up()


class PromptRow(Horizontal):
    """Shows what was said; becomes a line to type when asked."""

    DEFAULT_CSS = """
    PromptRow { height: 1; }
    PromptRow > #said { width: 1fr; height: 1; }
    PromptRow > #asked { width: auto; min-width: 4; height: 1; display: none; }
    PromptRow > LineInput { width: 1fr; display: none; }
    PromptRow.-asking > #said { display: none; }
    PromptRow.-asking > #asked { display: block; }
    PromptRow.-asking > LineInput { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(id="prompt")
        self._then: Callable[[str], None] | None = None
        self._live: Callable[[str], None] | None = None
        self._given_up: Callable[[], None] | None = None
        self._back: Widget | None = None

    def compose(self) -> ComposeResult:
        yield LinePane(id="said")
        yield LinePane(id="asked")
        yield LineInput(self.give_up)

    @property
    def is_asking(self) -> bool:
        return self.has_class("-asking")

    @property
    def is_typed_into(self) -> bool:
        """Whether letters belong to its line: it asks, and nothing else took the focus."""
        return self.is_asking and self.app.focused is self.query_one(LineInput)

    def say(self, text: str, style: str = "text") -> None:
        self.query_one("#said", LinePane).set_lines([[(f" {clean(text)}", style)]])

    def said(self) -> str:
        return self.query_one("#said", LinePane).plain().strip()

    def ask(
        self,
        question: str,
        then: Callable[[str], None],
        *,
        value: str = "",
        live: Callable[[str], None] | None = None,
        given_up: Callable[[], None] | None = None,
        back: Widget | None = None,
        secret: bool = False,
    ) -> None:
        """Let the person type a line.

        Args:
            question: shown before it.
            then: called with the line after enter.
            value: what stands there already.
            live: called with every change.
            given_up: called after esc.
            back: gets the focus afterwards; what has it now, by default.
            secret: not shown while it is typed.
        """
        self._then, self._live, self._given_up = then, live, given_up
        self._back = back or self.app.focused
        asked = self.query_one("#asked", LinePane)
        label = f" {question} " if question != "/" else " /"
        asked.styles.width = len(label)
        asked.set_lines([[(label, "key")]])
        line = self.query_one(LineInput)
        line.password = secret
        with line.prevent(Input.Changed):
            line.value = value
        line.cursor_position = len(value)
        self.add_class("-asking")
        line.can_focus = True
        self.screen.set_focus(line)  # now, not with the next message: letters may be on their way

    def type_ahead(self, letter: str) -> None:
        """Take a letter that was typed before the line had the focus."""
        self.query_one(LineInput).insert_text_at_cursor(letter)

    def give_up(self) -> None:
        given_up = self._given_up
        self._end()
        if given_up is not None:
            given_up()

    def _end(self) -> None:
        self.remove_class("-asking")
        line = self.query_one(LineInput)
        line.can_focus = False
        if line.password:
            line.clear()
        self._then = self._live = self._given_up = None
        if self._back is not None and self._back.is_attached:
            self._back.focus()
        self._back = None

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._live is not None:
            self._live(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        then = self._then
        self._end()
        if then is not None:
            then(event.value)
