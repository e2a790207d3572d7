"""Stores: which there are, what each lies on, its keys and rules; making and opening one."""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.dialogs.wizard import Wizard
from holdfast_tui.model.request import Target
from holdfast_tui.model.rows import Cell, Clip, Column
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.render.look import STYLE_OF_MARK, Mark
from holdfast_tui.screens.stores.facts import Detail, detail_of
from holdfast_tui.screens.view import View
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line

_FULL, _NEARLY = 0.95, 0.8
_BAR = 24


class StoresView(View):
    """The stores of the configuration."""

    VIEW: ClassVar[str] = "stores"
    TITLE: ClassVar[str] = "Stores"
    HELP: ClassVar[str] = (
        "The stores of the configuration, and everything known about the one under the cursor.\n"
        "enter shows its snapshots. A makes a store or opens one that is there;\n"
        "F goes through the first steps: store, key, first backup, schedule, retention."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("stores")
    DEFAULT_CSS = """
    StoresView #stores { height: 1fr; }
    StoresView #facts { height: 2fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.detail: Detail | None = None

    def compose(self) -> ComposeResult:
        yield RowList(
            self._columns(),
            key_of=lambda row: row.name,
            is_problem=lambda row: bool(row.error or row.failed),
            id="stores",
            classes="pane",
        )
        yield LinePane(id="facts", classes="pane")

    @property
    def rows(self) -> RowList[StoreFacts]:
        return self.query_one("#stores", RowList)

    def _columns(self) -> list[Column[Any]]:
        look = self.look

        def state(row: StoreFacts) -> Cell:
            if row.error:
                return f"{look.mark(Mark.BAD)} unusable", "bad"
            if row.refusal:
                return "r read-only", "warn"
            return f"{look.mark(Mark.OK)} ok", "good"

        def verify(row: StoreFacts) -> Cell:
            if row.failed:
                return f"{look.mark(Mark.BAD)} {row.failed} failed", "bad"
            if row.old:
                return f"{look.mark(Mark.OLD)} {row.old} outdated", "warn"
            if row.never:
                return f"{look.mark(Mark.NONE)} {row.never} never", "dim"
            return (f"{look.mark(Mark.OK)} ok", "good") if row.snapshots else ("", "dim")

        def used(row: StoreFacts) -> Cell:
            part = row.used_part
            style = "bad" if (part or 0) >= _FULL else "warn" if (part or 0) >= _NEARLY else "text"
            return fmt.percent(part), style

        return [
            Column(title="name", cell=lambda row: (row.name, "strong"), width_min=10),
            Column(title="state", cell=state, width=11),
            Column(title="used", cell=used, width=4, right=True),
            Column(title="free", cell=lambda row: fmt.size(row.free), width=9, right=True),
            Column(
                title="snaps",
                cell=lambda row: fmt.count(row.snapshots),
                width=6,
                right=True,
                rank=1,
            ),
            Column(
                title="dedup", cell=lambda row: fmt.factor(row.dedup), width=6, right=True, rank=2
            ),
            Column(title="verify", cell=verify, width=13, rank=1),
            Column(
                title="path",
                cell=lambda row: (row.path, "dim"),
                clip=Clip.PATH,
                width_min=14,
                share=2,
                rank=3,
            ),
        ]

    # Facts ----------------------------------------------------------------------------------------

    def stores_seen(self, stores: Sequence[StoreFacts]) -> None:
        rows = self.rows
        if not self.hold.has_looked_for_stores:
            rows.set_empty("Reading the configuration ...")
        else:
            rows.set_empty(
                "No store is configured yet.",
                "F goes through the first steps; A makes a store or opens one that is there.",
            )
        rows.set_rows(list(stores))
        rows.title("Stores", fmt.plural(len(stores), "store"))
        self._facts()

    def shown(self) -> None:
        self._read_detail()

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        message.stop()
        row = message.row
        self.store_name = "" if row is None else row.name
        if row is None or self.detail is None or self.detail.settings.name != row.name:
            self.detail = None
            self._read_detail()
        self._facts()

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        message.stop()
        self.hold.go("snapshots", Target(store=message.row.name))

    def reload(self) -> None:
        super().reload()
        self._read_detail()

    def twin(self) -> Sequence[str] | None:
        return ("snapshots", "--all-namespaces")

    def copy_text(self) -> str:
        row = self.rows.current
        return "" if row is None else row.path

    def _read_detail(self) -> None:
        row = self.rows.current
        if row is None:
            return
        reader = self.hold.reader

        def read(detail: Detail) -> None:
            self.detail = detail
            self._facts()

        self.read(lambda: detail_of(reader, row.name), read, group="detail")

    # The lower pane -------------------------------------------------------------------------------

    def _facts(self) -> None:
        pane = self.query_one("#facts", LinePane)
        row = self.rows.current
        pane.name_pane("Facts" if row is None else clean(row.name))
        pane.set_lines([] if row is None else self._lines(row))

    def _lines(self, row: StoreFacts) -> list[Line]:
        lines: list[Line] = []
        if row.error:
            mark = self.look.mark(Mark.BAD)
            lines.append([(f" {mark} {clean(row.error)}", "bad")])
            lines += [[(f"   {clean(row.hint)}", "dim")]] if row.hint else []
        detail = self.detail
        path = row.path if detail is None else detail.settings.path
        lines.append(self._line("path", clean(path)))
        if row.comment:
            lines.append(self._line("comment", clean(row.comment)))
        lines += self._disk(row)
        lines += self._content(row)
        if detail is not None:
            lines += self._settings(detail)
        if row.refusal:
            lines.append(self._line("changes", f"none: {clean(row.refusal)}", "warn"))
        return lines

    @staticmethod
    def _line(name: str, text: str, style: str = "text") -> Line:
        return [(f" {name:12}", "dim"), (text, style)]

    def _disk(self, row: StoreFacts) -> list[Line]:
        lines: list[Line] = []
        part = row.used_part
        if part is not None:
            style = "bar-bad" if part >= _FULL else "bar-warn" if part >= _NEARLY else "bar"
            full, empty = self.look.bar(part, _BAR)
            lines.append(
                [
                    (f" {'disk':12}", "dim"),
                    (full, style),
                    (empty, "empty"),
                    (
                        f" {fmt.percent(part)}  {fmt.size(row.used)} of {fmt.size(row.total)}",
                        "text",
                    ),
                    (f", {fmt.size(row.free)} free", "dim"),
                ]
            )
        detail = self.detail
        if detail is not None:
            where = f"{detail.file_system} at {clean(detail.mount)}"
            lines.append(self._line("file system", where))
            lines += [self._line("", note, "dim") for note in detail.notes]
        return lines

    def _content(self, row: StoreFacts) -> list[Line]:
        now_s = self.now_s
        groups = fmt.plural(row.groups or 0, "group")
        counted = "reading ..." if row.snapshots is None else f"{row.snapshots:,} in {groups}"
        lines = [self._line("snapshots", counted)]
        if row.stored is not None:
            text = f"{fmt.size(row.stored)} stored for {fmt.size(row.logical)}"
            lines.append(self._line("chunks", f"{text}, dedup {fmt.factor(row.dedup)}"))
        ago = "never" if row.last_gc is None else f"{fmt.age(now_s - row.last_gc)} ago"
        lines.append(self._line("last gc", ago, "dim" if row.last_gc is None else "text"))
        if row.last_verify is not None:
            mark = Mark.BAD if row.failed else Mark.OLD if row.old else Mark.OK
            text = f"{self.look.mark(mark)} {fmt.age(now_s - row.last_verify)} ago"
            text += f", {row.failed} failed" if row.failed else ""
            lines.append(self._line("last verify", text, STYLE_OF_MARK[mark]))
        else:
            lines.append(self._line("last verify", "never", "dim"))
        return lines

    def _settings(self, detail: Detail) -> list[Line]:
        settings = detail.settings
        keep = ", ".join(f"{count} {name}" for name, count in detail.keep)
        lines = [self._line("prune keeps", keep or "no rule of its own", "text" if keep else "dim")]
        if not detail.keys:
            lines.append(self._line("key", "none: backups are not encrypted", "dim"))
        for key in detail.keys:
            if key.problem:
                lines.append(self._line("key", clean(key.problem), "bad"))
                continue
            lines.append(self._line("key", clean(key.fingerprint or "no fingerprint"), "accent"))
            lock = "no passphrase" if key.kdf == "none" else f"passphrase ({key.kdf})"
            hint = f", hint: {clean(key.hint)}" if key.hint else ""
            lines.append(self._line("", f"{clean(key.path)}, {lock}{hint}", "dim"))
        if settings.master_key:
            lines.append(self._line("master key", clean(settings.master_key)))
        options = settings.options
        text = f"chunk order {options.chunk_order.value}, sync {options.sync_level.value}"
        text += ", new backups are verified" if options.verify_new else ""
        lines.append(self._line("options", text, "dim"))
        return lines

    # Actions --------------------------------------------------------------------------------------

    def action_add(self) -> None:
        self.hold.show(Wizard(only_store=True))

    def action_first_steps(self) -> None:
        self.hold.show(Wizard())
