"""What the left and the right side show of each kind of row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from holdfast.archive.open import Archive, ArchiveKind
from holdfast.archive.pxar.format import Kind
from holdfast.host.clock import Clock
from holdfast.ids import GroupId
from holdfast_tui.archive_reader import Differs
from holdfast_tui.model.files import FileRow
from holdfast_tui.model.rows import Cell, Clip, Column
from holdfast_tui.model.snapshots import SnapshotRow, VerifyCounts
from holdfast_tui.render import fmt
from holdfast_tui.render.look import STYLE_OF_MARK, Look, Mark

_KIND_STYLES = {
    Kind.DIRECTORY: "title",
    Kind.SYMLINK: "run",
    Kind.BLOCK: "warn",
    Kind.CHAR: "warn",
    Kind.FIFO: "stop",
    Kind.SOCKET: "stop",
}
_KIND_SIGNS = {Kind.DIRECTORY: "/", Kind.SYMLINK: "@", Kind.FIFO: "|", Kind.SOCKET: "="}
_ARCHIVE_WORDS = {
    ArchiveKind.TREE: "files",
    ArchiveKind.IMAGE: "disk image",
    ArchiveKind.BLOB: "one file",
}
_EXECUTABLE = 0o111
_VS = {
    Differs.SAME: ("= same", "same"),
    Differs.CHANGED: ("c differs", "changed"),
    Differs.THERE: ("  there", "dim"),
    Differs.NEW: ("n new", "new"),
}


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group of snapshots of one store."""

    store: str
    group: GroupId
    snapshots: tuple[SnapshotRow, ...]

    @property
    def key(self) -> tuple[str, GroupId]:
        return self.store, self.group

    @property
    def name(self) -> str:
        """With its namespace: `prod/eu/host/web1`."""
        return "/".join([*self.group.ns.parts, str(self.group)])


@dataclass(frozen=True, slots=True)
class ArchiveRow:
    """An archive of the snapshot."""

    archive: Archive

    @property
    def key(self) -> str:
        return self.archive.name


def text_of(name: bytes) -> str:
    """Raw bytes as text for a row, which makes them harmless itself."""
    return name.decode("utf-8", "surrogateescape")


def _worst(row: GroupRow, look: Look, clock: Clock) -> Cell:
    mark, number = VerifyCounts.of(row.snapshots, clock.now_s()).worst
    word = {
        Mark.BAD: "failed",
        Mark.LOST: "unreadable",
        Mark.OLD: "outdated",
        Mark.WARN: "unfinished",
        Mark.NONE: "not verified",
        Mark.OK: "ok",
    }[mark]
    return f"{look.mark(mark)} {number} {word}", STYLE_OF_MARK[mark]


def group_columns(look: Look, clock: Clock, *, with_store: bool) -> list[Column[GroupRow]]:
    """Of groups: what there is to restore from."""

    def age(row: GroupRow) -> Cell:
        return fmt.age(clock.now_s() - row.snapshots[0].time_s), "text"

    columns: list[Column[GroupRow]] = [
        Column(title="group", cell=lambda row: (row.name, "strong"), width_min=16),
        Column(title="snaps", cell=lambda row: f"{len(row.snapshots):,}", width=6, right=True),
        Column(
            title="newest", cell=age, width=8, right=True, sort=lambda r: -r.snapshots[0].time_s
        ),
        Column(title="size", cell=_group_size, width=9, right=True, rank=2),
        Column(title="verify", cell=lambda row: _worst(row, look, clock), width=16, rank=1),
    ]
    if with_store:
        columns.insert(1, Column(title="store", cell=lambda row: row.store, width=10, rank=3))
    return columns


def _group_size(row: GroupRow) -> Cell:
    return fmt.size(sum(file.size for file in row.snapshots[0].summary.archives)), "dim"


def snapshot_columns(look: Look, clock: Clock) -> list[Column[SnapshotRow]]:
    """Of the snapshots of a group, newest first."""

    def verify(row: SnapshotRow) -> Cell:
        now_s = clock.now_s()
        mark = row.verify_mark(now_s)
        return f"{look.mark(mark)} {row.verify_word(now_s)}", STYLE_OF_MARK[mark]

    def size(row: SnapshotRow) -> Cell:
        return fmt.size(sum(file.size for file in row.summary.archives))

    return [
        Column(title="time", cell=lambda row: (fmt.moment(row.time_s), "strong"), width=16),
        Column(
            title="age", cell=lambda row: fmt.age(clock.now_s() - row.time_s), width=7, right=True
        ),
        Column(title="verify", cell=verify, width=12),
        Column(title="flags", cell=lambda row: (row.flags, "dim"), width=5, rank=2),
        Column(title="size", cell=size, width=9, right=True, rank=1),
        Column(title="note", cell=lambda row: (row.summary.comment, "dim"), width_min=4, rank=3),
    ]


def archive_columns() -> list[Column[ArchiveRow]]:
    """Of the archives of a snapshot."""

    def crypt(row: ArchiveRow) -> Cell:
        mode = row.archive.files[0].crypt_mode.value
        return ("encrypted", "warn") if mode == "encrypt" else ("", "dim")

    return [
        Column(title="archive", cell=lambda row: (row.archive.name, "strong"), width_min=16),
        Column(title="kind", cell=lambda row: (_ARCHIVE_WORDS[row.archive.kind], "dim"), width=10),
        Column(title="size", cell=lambda row: fmt.size(row.archive.size), width=9, right=True),
        Column(title="", cell=crypt, width=9, rank=1),
    ]


def name_cell(row: FileRow, *, is_damaged: bool, whole_path: bool = False) -> Cell:
    """A name with the sign of its kind, in its colour."""
    text = text_of(row.path if whole_path else row.name) + _KIND_SIGNS.get(row.kind, "")
    if is_damaged:
        return text, "bad"
    style = _KIND_STYLES.get(row.kind, "text")
    if row.kind is Kind.FILE and row.mode & _EXECUTABLE:
        style = "good"
    return text, style


def _size(row: FileRow) -> Cell:
    if row.kind in (Kind.FILE, Kind.HARDLINK):
        return fmt.size_short(row.size)
    return "-" if row.kind is Kind.DIRECTORY else row.kind.value, "dim"


def _modified(clock: Clock) -> Callable[[FileRow], Cell]:
    def cell(row: FileRow) -> Cell:
        return fmt.clock(row.mtime_s, clock.now_s()) if row.mtime_ns else "-", "dim"

    return cell


def file_columns(
    vs: Callable[[FileRow], str],
    is_damaged: Callable[[FileRow], bool],
    clock: Clock,
    *,
    whole_path: bool = False,
) -> list[Column[Any]]:
    """Of files in the archive.

    Args:
        vs: what a row is at the destination; empty for not known or nothing to say.
        is_damaged: whether a row's content is known to be lost.
        clock: for files of today.
        whole_path: rows come from many directories.
    """

    def against(row: FileRow) -> Cell:
        if is_damaged(row):
            return "X damaged", "bad"
        word = vs(row)
        return _VS.get(word, ("", "dim"))

    def name(row: FileRow) -> Cell:
        return name_cell(row, is_damaged=is_damaged(row), whole_path=whole_path)

    return [
        Column(
            title="path" if whole_path else "name",
            cell=name,
            clip=Clip.PATH if whole_path else Clip.MIDDLE,
            width_min=16,
            sort=lambda row: row.path,
        ),
        Column(title="size", cell=_size, width=7, right=True, sort=lambda row: row.size),
        Column(
            title="modified", cell=_modified(clock), width=11, rank=2, sort=lambda row: row.mtime_ns
        ),
        Column(title="vs", cell=against, width=9, rank=1),
    ]


def host_columns(clock: Clock) -> list[Column[FileRow]]:
    """Of what is at the destination."""
    return [
        Column(
            title="name",
            cell=lambda row: name_cell(row, is_damaged=False),
            clip=Clip.MIDDLE,
            width_min=12,
            sort=lambda row: row.path,
        ),
        Column(title="size", cell=_size, width=7, right=True, sort=lambda row: row.size),
        Column(
            title="modified", cell=_modified(clock), width=11, rank=1, sort=lambda row: row.mtime_ns
        ),
    ]
