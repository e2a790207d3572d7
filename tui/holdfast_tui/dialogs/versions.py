"""Versions of one path, or paths of many snapshots: enter goes to the one under the cursor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.widget import Widget

from holdfast.host.clock import Clock
from holdfast.ids import SnapshotId
from holdfast.operations.find import FoundPath, Version
from holdfast_tui.dialogs.dialog import Dialog
from holdfast_tui.model.rows import Cell, Clip, Column
from holdfast_tui.model.snapshots import SnapshotRow
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.render.look import STYLE_OF_MARK, Look
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line

_WARNINGS_SHOWN = 5


class Chosen(NamedTuple):
    """Where to go."""

    snapshot: SnapshotId
    archive: str
    path: bytes


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One distinct content, and the snapshots that have it."""

    version: Version
    is_current: bool
    known: Mapping[SnapshotId, SnapshotRow]

    @property
    def key(self) -> str:
        return str(self.version.snapshots[-1])

    @property
    def newest(self) -> SnapshotId:
        return self.version.snapshots[-1]

    @property
    def chosen(self) -> Chosen:
        return Chosen(self.newest, "", b"")


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One path with all its versions."""

    found: FoundPath

    @property
    def key(self) -> tuple[str, bytes]:
        return self.found.archive, self.found.path

    @property
    def newest(self) -> Version:
        return max(self.found.versions, key=lambda version: version.snapshots[-1].time_s)

    @property
    def chosen(self) -> Chosen:
        return Chosen(self.newest.snapshots[-1], self.found.archive, self.found.path)


def _version_columns(look: Look, clock: Clock) -> list[Column[Any]]:
    def span(row: VersionRow) -> Cell:
        first, last = row.version.snapshots[0], row.version.snapshots[-1]
        style = "accent" if row.is_current else "text"
        if first == last:
            return fmt.moment(last.time_s), style
        return f"{fmt.moment(first.time_s)} {look.arrow} {fmt.moment(last.time_s)}", style

    def modified(row: VersionRow) -> Cell:
        stat = row.version.stat
        return ("-", "dim") if stat is None else (fmt.clock(stat.mtime_s, clock.now_s()), "dim")

    def verify(row: VersionRow) -> Cell:
        known = row.known.get(row.newest)
        if known is None:
            return "", "dim"
        now_s = clock.now_s()
        mark = known.verify_mark(now_s)
        return f"{look.mark(mark)} {known.verify_word(now_s)}", STYLE_OF_MARK[mark]

    return [
        Column(title="in snapshots", cell=span, width_min=16),
        Column(title="n", cell=lambda row: str(len(row.version.snapshots)), width=4, right=True),
        Column(title="size", cell=lambda row: fmt.size(row.version.size), width=9, right=True),
        Column(title="modified", cell=modified, width=11, rank=2),
        Column(title="verify", cell=verify, width=12, rank=1),
    ]


def _found_columns() -> list[Column[Any]]:
    def path(row: FoundRow) -> Cell:
        return row.found.path.decode("utf-8", "surrogateescape")

    return [
        Column(title="path", cell=path, clip=Clip.PATH, width_min=16),
        Column(title="archive", cell=lambda row: (row.found.archive, "dim"), width=12, rank=2),
        Column(title="newest", cell=lambda row: fmt.moment(_newest_s(row)), width=16),
        Column(
            title="size", cell=lambda row: fmt.size(row.newest.size), width=9, right=True, rank=1
        ),
        Column(title="vers", cell=lambda row: str(len(row.found.versions)), width=4, right=True),
    ]


def _newest_s(row: FoundRow) -> int:
    return row.newest.snapshots[-1].time_s


class VersionsDialog(Dialog[Chosen]):
    """Answers where to go."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "give_up", show=False)]
    DEFAULT_CSS = """
    VersionsDialog RowList { height: auto; max-height: 20; min-height: 3; }
    """

    def __init__(
        self,
        title: str,
        rows: Sequence[Any],
        *,
        found: bool = False,
        warnings: Sequence[str] = (),
    ) -> None:
        super().__init__(title, "enter goes there - esc closes")
        self._rows = list(rows)
        self._warnings = list(warnings)
        self._is_found = found

    def body(self) -> list[Widget]:
        hold = self.hold
        columns = _found_columns() if self._is_found else _version_columns(hold.look, hold.clock)
        rows: RowList[Any] = RowList(columns, key_of=lambda row: row.key)
        rows.styles.height = min(18, max(3, len(self._rows) + 1))
        lines: list[Line] = [
            [("X ", "bad"), (clean(text), "dim")] for text in self._warnings[:_WARNINGS_SHOWN]
        ]
        return [rows, LinePane(lines, classes="-auto")]

    def ready(self) -> None:
        rows = self.query_one(RowList)
        rows.set_empty("No readable snapshot of this group has it.", "esc closes.")
        rows.set_rows(self._rows)
        rows.focus()

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        message.stop()
        self.dismiss(message.row.chosen)
