"""The first steps: a store, a key, the first backup with its schedule and retention.

Nothing is done before the last page, and there by `holdfast` commands, each only when the one before
went well. Every page can be left with esc; what was typed is there again the next time.
"""

import asyncio
import os
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input

from holdfast_tui.dialogs.dialog import Dialog
from holdfast_tui.model import first_steps
from holdfast_tui.model.first_steps import CHECK, KEY, SUMMARY, Page, commands, name_of, problem
from holdfast_tui.model.request import How, Request
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.render.look import STYLE_OF_MARK, Mark
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.prompt import LineInput
from holdfast_tui.widgets.strips import Line

_FIELDS = 5
_STATE = "wizard."
_SEARCHED = ("/srv", "/mnt", "/backup", "/var/lib", "/media")


class FieldRow(Horizontal):
    """A label and a line to type."""

    DEFAULT_CSS = """
    FieldRow { height: 1; }
    FieldRow > LinePane { width: 12; height: 1; }
    FieldRow > LineInput { width: 1fr; }
    """

    def __init__(self, number: int, wizard: "Wizard") -> None:
        super().__init__()
        self.label = LinePane()
        self.line = FieldInput(wizard.action_give_up, id=f"field{number}")

    def compose(self) -> ComposeResult:
        yield self.label
        yield self.line


class FieldInput(LineInput):
    """Up and down go to the fields beside."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,tab", "screen.step(1)", show=False),
        Binding("up,shift+tab", "screen.step(-1)", show=False),
    ]


class Wizard(Dialog[None]):
    """Page after page; enter goes on, shift+tab back, esc leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "step(1)", show=False),
        Binding("shift+tab,up,left", "step(-1)", show=False),
    ]
    DEFAULT_CSS = """
    Wizard #intro, Wizard #notes { margin-bottom: 1; }
    """

    def __init__(self, *, only_store: bool = False) -> None:
        super().__init__("First steps", "enter goes on - shift+tab back - esc leaves")
        home = os.path.expanduser("~")
        pages = [CHECK, first_steps.store_page(home), KEY, first_steps.backup_page(), SUMMARY]
        if only_store:
            pages = [pages[1], KEY, SUMMARY]
        self._pages: list[Page] = pages
        self._at = 0
        self._values: dict[str, str] = {}
        self._commands: list[tuple[str, ...]] = []
        self._twins: list[str] = []

    @property
    def page(self) -> Page:
        return self._pages[self._at]

    def body(self) -> list[Widget]:
        rows = [FieldRow(number, self) for number in range(_FIELDS)]
        intro, notes = LinePane(id="intro", classes="-auto"), LinePane(id="notes", classes="-auto")
        return [intro, *rows, notes]

    def ready(self) -> None:
        for page in self._pages:
            for field in page.fields:
                self._values[field.name] = field.value
                if not field.is_secret:
                    kept = self.hold.state.text(_STATE + field.name, field.value)
                    self._values[field.name] = kept
        self._show()

    def on_unmount(self) -> None:
        self._keep()

    # Showing --------------------------------------------------------------------------------------

    def _rows(self) -> list[FieldRow]:
        return list(self.query(FieldRow))

    def _show(self) -> None:
        page = self.page
        box = self.query_one("#box")
        box.border_title = f"{self._at + 1}/{len(self._pages)}  {page.title}"
        box.border_subtitle = "enter goes on - shift+tab back - esc leaves"
        intro: list[Line] = [[(text, "dim")] for text in page.intro]
        self.query_one("#intro", LinePane).set_lines(intro)
        for row in self._rows():
            row.display = False
        for field, row in zip(page.fields, self._rows(), strict=False):
            row.display = True
            row.label.set_lines([[(f" {field.label:10} ", "key")]])
            row.label.refresh()  # it was not on the screen when its line changed
            row.line.password = field.is_secret
            row.line.value = self._values[field.name]
            row.line.cursor_position = len(row.line.value)
        if page.fields:
            self._rows()[0].line.focus()
            self._about(0)
        else:
            self.set_focus(None)
            self._notes([])
        if page is CHECK:
            self.hold.background(self._check, group="wizard", exclusive=True)
        elif page is SUMMARY:
            self.hold.background(self._summary, group="wizard", exclusive=True)
        elif page.name == "store":
            self.hold.background(self._near, group="wizard", exclusive=True)

    def _notes(self, lines: list[Line]) -> None:
        for pane in self.query("#notes").results(LinePane):  # none when the answer comes too late
            pane.set_lines([[], *lines] if lines else [])

    def _about(self, number: int) -> None:
        if self.page.fields:
            self._notes([[(f" {self.page.fields[number].about}", "dim")]])

    def on_descendant_focus(self) -> None:
        for number, row in enumerate(self._rows()):
            if row.line.has_focus and number < len(self.page.fields):
                self._about(number)

    # Pages that read ------------------------------------------------------------------------------

    async def _check(self) -> None:
        hold = self.hold
        look = hold.look
        facts = await asyncio.to_thread(_facts_of_host, hold.options.config, hold.options.state_dir)
        size = hold.size
        facts = [
            (Mark.OK if look.unicode else Mark.WARN, "letters", _letters(unicode=look.unicode)),
            (Mark.OK, "colours", f"theme {look.theme}"),
            (
                Mark.OK if size.width >= 80 and size.height >= 24 else Mark.WARN,  # noqa: PLR2004
                "size",
                f"{size.width}x{size.height}",
            ),
            *facts,
        ]
        self._notes(
            [
                [
                    (f" {look.mark(mark)} ", STYLE_OF_MARK[mark]),
                    (f"{name:14}", "dim"),
                    (text, "text"),
                ]
                for mark, name, text in facts
            ]
        )

    async def _near(self) -> None:
        from holdfast_tui.screens.stores.facts import stores_near

        found = await asyncio.to_thread(stores_near, _SEARCHED)
        if found and self.page.name == "store":
            lines: list[Line] = [[(" stores that are there already:", "dim")]]
            self._notes([*lines, *([(f"   {clean(path)}", "text")] for path in found[:5])])

    async def _summary(self) -> None:
        hold = self.hold
        values = dict(self._values)

        def look() -> tuple[bool, bool, int | None, str]:
            from holdfast_tui.archive_reader import HostFolder
            from holdfast_tui.screens.stores.facts import is_store

            path = os.path.expanduser(values["path"])
            keyfile = os.path.expanduser(values["keyfile"].strip())
            folder = HostFolder(path)
            bad = ""
            adopts = is_store(path)
            if folder.problem:
                bad = folder.problem
            elif not adopts and folder.exists and not folder.is_empty:
                bad = f"neither empty nor a store: {path}"
            elif not adopts and not folder.is_writable:
                bad = f"you may not write to {folder.above}"
            return adopts, bool(keyfile) and not os.path.exists(keyfile), folder.free, bad

        adopts, makes_key, free, bad = await asyncio.to_thread(look)
        self._commands = [] if bad else commands(values, adopts=adopts, makes_key=makes_key)
        self._twins = [hold.options.twin(None, words) for words in self._commands]
        what = "open the store that is there" if adopts else "make a new store"
        lines: list[Line] = [[(f" {what}: ", "dim"), (clean(values["path"]), "strong")]]
        if free is not None:
            lines[0] = [*lines[0], (f"   {fmt.size(free)} free", "dim")]
        lines.append([])
        if bad:
            lines += [[(f" {hold.look.mark(Mark.BAD)} {clean(bad)}", "bad")]]
            lines += [[(" shift+tab goes back to change it", "dim")]]
        for twin in self._twins:
            width = max(30, self.size.width * 9 // 10 - 8)
            text = clean(twin)
            pieces = [text[at : at + width] for at in range(0, len(text), width)]
            lines += [
                [(" $ " if at == 0 else "   ", "key"), (piece, "text")]
                for at, piece in enumerate(pieces)
            ]
        if not bad:
            lines += [[], [(" enter runs them, one after the other", "dim")]]
        self._notes(lines)

    # Going on -------------------------------------------------------------------------------------

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        for field, row in zip(self.page.fields, self._rows(), strict=False):
            self._values[field.name] = row.line.value

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_step(1)

    def action_step(self, step: int) -> None:
        """The next or previous field, and behind the last one the next page."""
        if not self._rows():
            return  # not mounted yet
        if step > 0 and self.page is KEY and not self._values["keyfile"].strip():
            self._leave_page()  # no key, no passphrase
            return
        rows = self._rows()[: len(self.page.fields)]
        at = next((number for number, row in enumerate(rows) if row.line.has_focus), -1)
        if rows and 0 <= at + step < len(rows):
            rows[at + step].line.focus()
            return
        if step > 0:
            self._leave_page()
        elif self._at:
            self._at -= 1
            self._show()

    def _leave_page(self) -> None:
        page = self.page
        taken = list(self.hold.store_facts)
        bad = problem(page.name, self._values, taken=taken)
        if bad:
            self._notes([[(f" {self.hold.look.mark(Mark.BAD)} {clean(bad)}", "bad")]])
            return
        if page is SUMMARY:
            self._run()
            return
        self._keep()
        self._at += 1
        self._show()

    def _keep(self) -> None:
        for field in (field for page in self._pages for field in page.fields):
            if not field.is_secret and field.name in self._values:
                self.hold.state.set(_STATE + field.name, self._values[field.name])

    def _run(self) -> None:
        if not self._commands:
            return
        first, *more = self._commands
        name = name_of(self._values)
        self.hold.do(
            Request(
                title=f"Set up {name}",
                words=first,
                more=tuple(more),
                how=How.SHORT,
                confirm=False,
                done=f"store {name} is ready",
                secret=os.fsencode(self._values.get("passphrase", "")),
            )
        )
        for field in list(self._values):
            self.hold.state.set(_STATE + field, None)
        self._values.clear()
        self.dismiss(None)


def _letters(*, unicode: bool) -> str:
    return "UTF-8" if unicode else "ASCII only: the locale is not UTF-8"


def _facts_of_host(config: str, state_dir: str) -> list[tuple[Mark, str, str]]:
    """What matters of this host, for a thread."""
    facts = []
    user = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    note = "" if os.geteuid() == 0 else ": files of others cannot be read"
    facts.append((Mark.OK if os.geteuid() == 0 else Mark.WARN, "runs as", user + note))
    for name, path in (("configuration", config), ("state", state_dir)):
        above = path
        while not os.path.isdir(above) and above != "/":
            above = os.path.dirname(above)
        can = os.access(above, os.W_OK)
        mark = Mark.OK if can else Mark.BAD
        facts.append((mark, name, path if can else f"{path} cannot be written"))
    return facts
