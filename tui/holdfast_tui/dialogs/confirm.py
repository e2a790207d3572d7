"""Questions before something is changed: enter on a summary, or the object's own word typed."""

from textual.binding import Binding
from textual.events import Paste
from textual.widget import Widget
from textual.widgets import Input

from holdfast_tui.dialogs.dialog import Dialog
from holdfast_tui.model.request import Request
from holdfast_tui.render.clean import clean
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.prompt import LineInput
from holdfast_tui.widgets.strips import Line

FACTS_SHOWN = 14


class WordInput(LineInput):
    """For the typed word; may refuse what was pasted."""

    def __init__(self, dialog: "Confirm", *, paste_allowed: bool) -> None:
        super().__init__(dialog.action_give_up, id="word")
        self._paste_allowed = paste_allowed

    def _on_paste(self, event: Paste) -> None:
        if self._paste_allowed:
            super()._on_paste(event)
        else:
            event.stop()
            event.prevent_default()


class Confirm(Dialog[bool]):
    """True when the person agrees; None or False otherwise."""

    BINDINGS = [  # noqa: RUF012  # as Textual wants it
        Binding("enter", "agree", "yes", show=False),
        Binding("ctrl+y", "copy", "copy", show=False),
    ]
    DEFAULT_CSS = """
    Confirm #word { width: 1fr; }
    Confirm .ask { height: 1; margin-top: 1; }
    """

    def __init__(self, request: Request, twin: str) -> None:
        hint = "type the word, enter · esc gives up" if request.word else "enter yes · esc no"
        super().__init__(request.title, hint.replace("·", "-"))
        self._request = request
        self._twin = twin

    def body(self) -> list[Widget]:
        facts = self._request.facts
        lines: list[Line] = [[(clean(fact), "text")] for fact in facts[:FACTS_SHOWN]]
        if len(facts) > FACTS_SHOWN:
            lines.append([(f"(+{len(facts) - FACTS_SHOWN} more)", "dim")])
        lines += [[], [("$ ", "key"), (clean(self._twin), "dim")]]
        parts: list[Widget] = [LinePane(lines, classes="-auto", id="facts")]
        if self._request.word:
            word = clean(self._request.word)
            ask: Line = [("Type ", "text"), (word, "key"), (" to go on:", "text")]
            parts.append(LinePane([ask], classes="ask"))
            parts.append(WordInput(self, paste_allowed=self._request.paste_allowed))
        return parts

    def ready(self) -> None:
        if self._request.word:
            self.query_one("#word", Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value == self._request.word:
            self.dismiss(True)  # noqa: FBT003  # the dialog's answer
        else:
            box = self.query_one("#box")
            box.border_subtitle = "that is another word - esc gives up"

    def action_agree(self) -> None:
        if not self._request.word:
            self.dismiss(True)  # noqa: FBT003  # the dialog's answer

    def action_copy(self) -> None:
        self.hold.copy_to_clipboard(self._twin)
        self.query_one("#box").border_subtitle = "copied"
