"""Snapshot detail: archives, manifest, checks, chunks, and who shares them."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.events import Resize

from holdfast.datastore.manifest import VerifyResult
from holdfast.ids import SnapshotId
from holdfast_tui import keymap
from holdfast_tui.insights import Steps
from holdfast_tui.model.explorer import ns_words
from holdfast_tui.model.request import Target
from holdfast_tui.model.rows import Column
from holdfast_tui.model.snapshots import Catalogue, SnapshotRow
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.render.look import STYLE_OF_MARK, Mark
from holdfast_tui.screens.snapshots.actions import SnapshotActions
from holdfast_tui.screens.snapshots.cells import verify_cell
from holdfast_tui.snapshot_facts import ArchiveFacts, SnapshotFacts, read_facts
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.parts import FactPane, Parts
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line, Part

_WIDE, _HIGH = 100, 30
_CRYPT = {"none": "-", "encrypt": "E encrypted", "sign-only": "S signed"}


class DetailView(SnapshotActions):
    """One snapshot, with everything that is known of it."""

    VIEW: ClassVar[str] = "detail"
    TITLE: ClassVar[str] = "Snapshot"
    HELP: ClassVar[str] = (
        "Everything that is known of one snapshot; h and l go to the older and the newer one.\n"
        "`new` counts chunks that the snapshot before does not have; the map shows where they lie.\n"
        "Enter on an archive looks at its files; i follows damaged chunks to files."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("detail")
    DEFAULT_CSS = """
    DetailView #archives { height: 5; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._target: Target | None = None
        self._row: SnapshotRow | None = None
        self._facts: SnapshotFacts | None = None
        self._now_s = 0.0
        self._archives: RowList[ArchiveFacts] = RowList(
            self._columns(),
            key_of=lambda archive: archive.name,
            is_problem=lambda archive: archive.lost_count > 0,
            id="archives",
            classes="pane",
        )
        self._manifest = FactPane(id="manifest", classes="pane")
        self._checks = FactPane(id="checks", classes="pane")
        self._chunks = FactPane(id="chunks", classes="pane")
        self._sharing: RowList[tuple[SnapshotId, float]] = RowList(
            self._sharing_columns(), key_of=lambda pair: pair[0], id="sharing", classes="pane"
        )
        self._parts = Parts(self._manifest, self._checks, self._chunks, self._sharing, id="parts")

    def compose(self) -> ComposeResult:
        yield self._archives
        yield self._parts

    def on_mount(self) -> None:
        self._archives.title("Archives")
        self._archives.set_empty("No snapshot is open.", "2 Snaps: enter opens one.")

    def _columns(self) -> list[Column[ArchiveFacts]]:
        return [
            Column(title="archive", cell=lambda one: one.name, width_min=16),
            Column(title="kind", cell=lambda one: (one.kind, "dim"), width=6, rank=3),
            Column(title="size", cell=lambda one: fmt.size(one.size), width=9, right=True),
            Column(
                title="chunks",
                cell=lambda one: fmt.count(one.chunks or None),
                width=9,
                right=True,
                rank=1,
            ),
            Column(
                title="new",
                cell=lambda one: fmt.count(one.fresh) if one.chunks else "-",
                width=9,
                right=True,
                rank=1,
            ),
            Column(
                title="stored", cell=lambda one: fmt.size(one.stored), width=9, right=True, rank=2
            ),
            Column(
                title="crypt",
                cell=lambda one: (_CRYPT.get(one.crypt, one.crypt), "dim"),
                width=11,
                rank=2,
            ),
            Column(title="chunk files", cell=self._files_cell, width=13),
        ]

    def _files_cell(self, archive: ArchiveFacts) -> tuple[str, str]:
        if archive.lost_count:
            return f"{self.look.mark(Mark.BAD)} {archive.lost_count:,} lost", "bad"
        if not archive.chunks:
            return f"{self.look.mark(Mark.NONE)} no chunks", "dim"
        if archive.stored is None:
            return f"{self.look.mark(Mark.NONE)} too many", "dim"
        return f"{self.look.mark(Mark.OK)} all there", "good"

    def _sharing_columns(self) -> list[Column[tuple[SnapshotId, float]]]:
        return [
            Column(title="snapshot", cell=lambda pair: fmt.moment(pair[0].time_s), width=16),
            Column(title="only", cell=self._only_of, width=9, right=True, rank=1),
            Column(title="has", cell=lambda pair: f"{100 * pair[1]:.0f}%", width=5, right=True),
            Column(title="of these chunks", cell=self._share_bar, width_min=8),
        ]

    def _only_of(self, pair: tuple[SnapshotId, float]) -> str:
        measured = self.hold.insights.usage.get(self.store_name)
        return fmt.size(None if measured is None else measured.usage.snapshots.get(pair[0]))

    def _share_bar(self, pair: tuple[SnapshotId, float]) -> tuple[str, str]:
        full, _empty = self.look.bar(pair[1], 20)
        return full, "bar"

    # Which snapshot -------------------------------------------------------------------------------

    def open_target(self, target: Target) -> None:
        self._target = target
        self.store_name = target.store
        self._row = None
        self._facts = None
        self._archives.set_rows(())
        self._archives.set_empty("reading ...")
        self._find()

    def catalogue_seen(self, catalogue: Catalogue) -> None:
        if self._target is not None and catalogue.store == self._target.store:
            self._find(is_complete=catalogue.is_complete)

    def _find(self, *, is_complete: bool = False) -> None:
        """The row of the snapshot; read on when it is another version than before."""
        target = self._target
        catalogue = None if target is None else self.hold.catalogues.get(target.store)
        if target is None or catalogue is None:
            return
        row = next(
            (
                row
                for group, rows in catalogue.groups.items()
                if str(group.ns) == target.ns and str(group) == _group_of(target)
                for row in rows
                if str(row.snapshot) == target.snapshot
            ),
            None,
        )
        if row is None:
            if is_complete or catalogue.is_complete:
                self._row = self._facts = None
                self._archives.set_rows(())
                self._archives.set_error(
                    f"{target.snapshot} is gone.", "Somebody forgot it, or prune did."
                )
                self._show()
            return
        if row == self._row:
            return
        self._row = row
        self._show()
        if row.summary.is_unfinished or row.summary.damage is not None:
            self._archives.set_error(
                clean(row.summary.damage or "This snapshot is not finished."),
                "Either its backup still runs, or prune removes what is left of it.",
            )
            return
        store, reader = target.store, self.hold.reader
        group = [each.snapshot for each in self.group_rows() if not each.summary.is_unfinished]

        def read(steps: Steps) -> SnapshotFacts:
            return read_facts(reader.open(store), row.snapshot, group, steps)

        self.read_long("reading the snapshot", read, self._take, failed=self._failed)

    def _take(self, facts: SnapshotFacts) -> None:
        self._facts = facts
        self._archives.set_empty("This snapshot has no archives.")
        self._archives.set_rows(facts.archives)
        self._archives.styles.height = min(12, max(4, len(facts.archives) + 3))
        self._sharing.set_empty("No other snapshot in this group.")
        self._sharing.set_rows(facts.sharing)
        self._show()

    def _failed(self, error: Exception) -> None:
        self._archives.set_error(str(error), getattr(error, "hint", "") or "")

    def shown(self) -> None:
        self._now_s = self.now_s
        self._fit()
        self._show()

    # For the actions ------------------------------------------------------------------------------

    def picked(self) -> list[SnapshotRow]:
        return [] if self._row is None else [self._row]

    def current_row(self) -> SnapshotRow | None:
        return self._row

    def marked_rows(self) -> list[SnapshotRow]:
        return []

    def group_rows(self) -> list[SnapshotRow]:
        """Of the snapshot's group, newest first."""
        if self._row is None:
            return []
        catalogue = self.hold.catalogues.get(self.store_name)
        return [] if catalogue is None else list(catalogue.groups.get(self._row.snapshot.group, ()))

    def is_on_snapshots(self) -> bool:
        return True

    # Showing --------------------------------------------------------------------------------------

    def _show(self) -> None:
        row = self._row
        if row is None:
            for pane in (self._manifest, self._checks, self._chunks):
                pane.set_lines([])
            return
        text, _style = verify_cell(row, self.look, self._now_s, self._lost)
        self._archives.title(f"{row.snapshot}", f"{text} {self.look.dot} {row.flags}")
        self._entitle(self._manifest, "Manifest")
        self._manifest.set_lines(self._manifest_lines(row))
        self._entitle(self._checks, "Verify history")
        self._checks.set_lines(self._check_lines(row))
        self._entitle(self._chunks, "Chunks")
        self._chunks.set_lines(self._chunk_lines())
        place = self._parts.place(self._sharing)
        self._sharing.title("Shares its chunks with", place)

    def _entitle(self, pane: LinePane, title: str) -> None:
        pane.name_pane(title, self._parts.place(pane))

    @property
    def _lost(self) -> int:
        return 0 if self._facts is None else sum(one.lost_count for one in self._facts.archives)

    def _manifest_lines(self, row: SnapshotRow) -> list[Line]:
        facts, summary = self._facts, row.summary
        lines: list[Line] = [
            _fact("owner", clean(summary.owner) or "-"),
            _fact(
                "size",
                f"{fmt.size(summary.size)} in {fmt.plural(len(summary.archives), 'archive')}",
            ),
            _fact("protected", "yes, L lifts it" if summary.is_protected else "no"),
            _fact("note", " / ".join(map(clean, summary.comment.splitlines())) or "-"),
        ]
        if facts is None:
            return lines
        key = f"key {facts.fingerprint}" if facts.fingerprint else "not encrypted"
        lines.insert(1, _fact("key", clean(key)))
        lines.insert(2, _fact("signature", "signed with the key" if facts.is_signed else "none"))
        if facts.upload is not None:
            sent = facts.upload
            lines.append(
                _fact(
                    "upload",
                    f"{sent.count:,} chunks, {fmt.size(sent.size)}, stored as"
                    f" {fmt.size(sent.compressed_size)}",
                )
            )
            lines.append(_fact("", f"{sent.duplicates:,} of them were there before"))
        lines.append(_fact("own files", fmt.size(facts.own_bytes)))
        measured = self.hold.insights.usage.get(self.store_name)
        if measured is not None and row.snapshot in measured.usage.snapshots:
            only = fmt.size(measured.usage.snapshots[row.snapshot])
            lines.append(_fact("only", f"{only} as of {fmt.clock(measured.at_s, self._now_s)}"))
        return lines

    def _check_lines(self, row: SnapshotRow) -> list[Line]:
        if self._facts is None:
            return [[(" reading ...", "dim")]]
        lines: list[Line] = []
        for state in reversed(self._facts.history):
            mark = Mark.BAD if state.state is VerifyResult.FAILED else Mark.OK
            age = fmt.age(self._now_s - state.upid.start_s)
            parts: list[Part] = [
                (f" {self.look.mark(mark)} {state.state.value:<7}", STYLE_OF_MARK[mark]),
                (fmt.moment(state.upid.start_s), "text"),
                (f"  {age} ago  by {clean(state.upid.auth_id)}", "dim"),
            ]
            lines.append(parts)
        if not lines:
            lines = [[(" Never verified.", "warn")], [(" V reads it again and checks it.", "dim")]]
        elif row.verify_mark(self._now_s) is Mark.OLD:
            lines.append([(" Longer ago than 30 days: V checks it again.", "dim")])
        return lines

    def _chunk_lines(self) -> list[Line]:
        archive = self._archives.current
        if archive is None:
            return []
        lines: list[Line] = [[(f" {clean(archive.name)}", "strong")]]
        if not archive.chunks:
            return [*lines, [(" A blob: one file of its own, no chunks.", "dim")]]
        mean = archive.size // archive.chunks
        stored = "" if archive.stored is None else f", stored as {fmt.size(archive.stored)}"
        lines.append(_fact("chunks", f"{archive.chunks:,}, {fmt.size(mean)} on average{stored}"))
        facts = self._facts
        since = (
            "no older snapshot"
            if facts is None or facts.before is None
            else (f"since {fmt.moment(facts.before.time_s)}")
        )
        lines.append(_fact("new", f"{archive.fresh:,} {since}"))
        styles = {"+": "bar", "n": "run", "X": "bad"}
        shown = {"+": "░", "n": "█", "X": "✗"} if self.look.unicode else {}
        lines.append(
            [
                (" map        ", "dim"),
                *((shown.get(cell, cell), styles[cell]) for cell in archive.cells),
            ]
        )
        legend: list[Part] = [("            ", "dim")]
        for cell, word in (("+", "as before"), ("n", "new here"), ("X", "lost")):
            legend += [(shown.get(cell, cell), styles[cell]), (f" {word}  ", "dim")]
        lines.append(legend)
        for digest, offset in archive.lost[:6]:
            lines.append(
                [
                    (f" {self.look.mark(Mark.BAD)} {digest[:12]}..", "bad"),
                    (f" at byte {offset:,}  ", "text"),
                    ("i: impact", "dim"),
                ]
            )
        if archive.lost_count > 6:  # noqa: PLR2004  # as many as are shown
            lines.append([(f" (+{archive.lost_count - 6} more)", "dim")])
        return lines

    # Keys -----------------------------------------------------------------------------------------

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        if message.rows is self._archives:
            self._chunks.set_lines(self._chunk_lines())

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        if message.rows is self._sharing:
            self._go_to(message.row[0])
            return
        row = self._row
        if row is not None:
            if self.hold.gate.no_content:
                self.say("files are off (started with --no-content)", "warn")
                return
            self.hold.go("restore", self._target_of(row.snapshot, archive=message.row.name))

    def _target_of(self, snapshot: SnapshotId, *, archive: str = "") -> Target:
        return Target(
            store=self.store_name,
            ns=str(snapshot.ns),
            group=str(snapshot.group),
            snapshot=str(snapshot),
            archive=archive,
        )

    def _go_to(self, snapshot: SnapshotId) -> None:
        self.open_target(self._target_of(snapshot))

    def action_tab(self, step: int) -> None:
        self._parts.step(step)
        self.call_after_refresh(self._show)  # once its width is known

    def action_older(self, step: int) -> None:
        rows = self.group_rows()
        if self._row is None or not rows:
            return
        at = next((at for at, row in enumerate(rows) if row.key == self._row.key), None)
        if at is None or not 0 <= at + step < len(rows):
            self.say("there is no older snapshot" if step > 0 else "this is the newest snapshot")
            return
        self._go_to(rows[at + step].snapshot)

    def action_impact(self) -> None:
        self.hold.go("verify", Target(store=self.store_name))

    def crumbs(self) -> str:
        row = self._row
        if row is None:
            return "snapshot"
        names = [self.store_name, *row.snapshot.ns.parts, str(row.snapshot.group)]
        return f" {self.look.arrow} ".join([*names, fmt.moment(row.time_s)])

    def twin(self) -> Sequence[str] | None:
        row = self._row
        return None if row is None else ("show", *ns_words(row.snapshot.ns), str(row.snapshot))

    def copy_text(self) -> str:
        return "" if self._row is None else str(self._row.snapshot)

    def on_resize(self, event: Resize) -> None:
        del event
        self._fit()

    def _fit(self) -> None:
        size = self.hold.size
        self._parts.fit(small=size.width < _WIDE or size.height < _HIGH)
        self.call_after_refresh(self._show)


def _group_of(target: Target) -> str:
    return target.group or target.snapshot.rpartition("/")[0]


def _fact(name: str, value: str) -> list[Part]:
    return [(f" {name:<10} ", "dim"), (value, "text")]
