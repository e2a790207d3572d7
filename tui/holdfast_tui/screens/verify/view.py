"""Verify: from lost chunks to snapshots to files, and the ways out; what is verified and what not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast.ids import SnapshotId
from holdfast_tui import keymap
from holdfast_tui.insights import Damage, Steps, failed_of, is_small
from holdfast_tui.model import damage as model
from holdfast_tui.model.damage import Hit, HitFile, Way, WayOut
from holdfast_tui.model.explorer import commands, group_name, named
from holdfast_tui.model.request import Request, Target, run_job
from holdfast_tui.model.rows import Clip, Column
from holdfast_tui.model.snapshots import Catalogue
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.render.look import Mark
from holdfast_tui.screens import cells
from holdfast_tui.screens.one_store import OneStore
from holdfast_tui.widgets.parts import FactPane, Parts
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line

if TYPE_CHECKING:
    from holdfast.datastore.damage import LostChunk
    from holdfast.operations.affected import AffectedArchive
    from holdfast_tui.reader import Reader

Copies = dict[str, frozenset[SnapshotId]]
_DUE_DAYS = 29


class VerifyView(OneStore):
    """One store at a time."""

    VIEW: ClassVar[str] = "verify"
    TITLE: ClassVar[str] = "Verify"
    HELP: ClassVar[str] = (
        "Chunks that verifications found damaged, the snapshots and files they hit, the ways out.\n"
        "Enter goes from a chunk to its snapshots, files and ways out; enter on a way follows it.\n"
        "Below: how much of the store was verified within 30 days. V verifies what is due."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("verify")
    HIGH_FACTS = 36
    DEFAULT_CSS = """
    VerifyView #lost { height: 6; }
    VerifyView.-high #lost { height: 8; }
    VerifyView #parts { grid-rows: 1fr 8 6; }
    VerifyView #parts.-one { grid-rows: 1fr; }
    VerifyView #ways, VerifyView #coverage { column-span: 2; }
    VerifyView .-one #ways, VerifyView .-one #coverage { column-span: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._damage: Damage | None = None
        self._found: dict[str, list[AffectedArchive]] = {}
        self._copies: dict[str, Copies] = {}
        self._tried: set[str] = set()
        self._lost: RowList[LostChunk] = RowList(
            self._lost_columns(),
            key_of=lambda chunk: chunk.digest,
            facts_of=lambda chunk: {"chunk": chunk.digest.hex()},
            id="lost",
            classes="pane",
        )
        self._hits: RowList[Hit] = RowList(
            self._hit_columns(),
            key_of=lambda hit: (hit.snapshot, hit.filename),
            marks_allowed=True,
            id="hits",
            classes="pane",
        )
        self._files: RowList[HitFile] = RowList(
            self._file_columns(),
            key_of=lambda file: (file.snapshot, file.archive, file.path),
            id="files",
            classes="pane",
        )
        self._ways: RowList[WayOut] = RowList(
            [
                Column(title="way out", cell=self._way_text, width_min=64),
                Column(title="brings", cell=lambda way: (way.gain, "dim"), width=26, rank=1),
            ],
            key_of=lambda way: (way.way, way.store),
            id="ways",
            classes="pane",
        )
        self._coverage = FactPane(id="coverage", classes="pane")
        self.parts = Parts(self._hits, self._files, self._ways, self._coverage, id="parts")

    def compose(self) -> ComposeResult:
        yield self._lost
        yield self.parts

    def on_mount(self) -> None:
        self._lost.title("Lost chunks")
        self._lost.set_empty("reading ...")

    def _lost_columns(self) -> "list[Column[LostChunk]]":
        return [
            Column(
                title="chunk",
                cell=lambda chunk: (
                    f"{self.look.mark(Mark.BAD)} {chunk.digest.hex()[:12]}..",
                    "bad",
                ),
                width=16,
            ),
            Column(title="problem", cell=_problem, width=12),
            Column(
                title="found", cell=lambda chunk: fmt.moment(chunk.set_aside_s), width=16, rank=2
            ),
            Column(
                title="used by",
                cell=lambda chunk: fmt.plural(len(chunk.snapshots), "snapshot"),
                width=12,
            ),
            Column(title="good copy", cell=self._copy_cell, width_min=10),
        ]

    def _copy_cell(self, chunk: "LostChunk") -> tuple[str, str]:
        copies = self._copies.get(chunk.digest.hex())
        if copies is None:
            return "looking ...", "dim"
        if copies:
            return f"{self.look.mark(Mark.OK)} {', '.join(sorted(copies))}", "good"
        return f"{self.look.mark(Mark.NONE)} in no other store", "dim"

    def _hit_columns(self) -> list[Column[Hit]]:
        return [
            Column(title="group", cell=lambda hit: group_name(hit.snapshot.group), width_min=10),
            Column(title="time", cell=lambda hit: fmt.moment(hit.snapshot.time_s), width=16),
            Column(title="archive", cell=lambda hit: hit.archive, width_min=10, rank=1),
            Column(title="bytes", cell=lambda hit: fmt.size(hit.size), width=8, right=True, rank=2),
        ]

    def _file_columns(self) -> list[Column[HitFile]]:
        return [
            Column(
                title="path", cell=lambda file: file.path, share=3, width_min=20, clip=Clip.PATH
            ),
            Column(title="archive", cell=lambda file: (file.archive, "dim"), width_min=8, rank=1),
            Column(
                title="snapshot",
                cell=lambda file: (fmt.moment(file.snapshot.time_s), "dim"),
                width=16,
                rank=2,
            ),
        ]

    def _way_text(self, way: WayOut) -> tuple[str, str]:
        at = next((n for n, each in enumerate(self._ways.rows, 1) if each is way), 0)
        key = "  (R)" if way.changes and not self.refusal() else ""
        return f"{at}  {way.text}{key}", "text"

    # Facts ----------------------------------------------------------------------------------------

    def stores_seen(self, stores: Sequence[StoreFacts]) -> None:
        names = [facts.name for facts in stores]
        bad = [facts.name for facts in stores if facts.failed or facts.bad_chunks]
        self.keep_store(stores, (bad or names or [""])[0])
        mine = next((facts for facts in stores if facts.name == self.store_name), None)
        failed = [facts.name for facts in stores if facts.failed]
        is_sound = mine is not None and not mine.failed and mine.snapshots is not None
        if failed and is_sound and not self._tried and not self._damage:
            self.choose_store(failed[0])
        self.show_all()

    def catalogue_seen(self, catalogue: Catalogue) -> None:
        if catalogue.store == self.store_name and catalogue.is_complete:
            self._show_coverage()
            self._look(catalogue)

    def shown(self) -> None:
        self.fit()
        catalogue = self.catalogue
        if catalogue is not None and catalogue.is_complete:
            self._look(catalogue)

    def open_target(self, target: Target) -> None:
        self.choose_store(target.store)
        if target.digest:
            self._lost.go_to(bytes.fromhex(target.digest))

    def another_store(self) -> None:
        self._damage = None
        self._copies = {}
        self._found = {}
        self._hits.set_marks(())
        self._lost.set_rows(())
        self._lost.set_empty("reading ...")
        catalogue = self.catalogue
        if catalogue is not None and catalogue.is_complete:
            self._look(catalogue)
        self.show_all()

    def _look(self, catalogue: Catalogue) -> None:
        """Trace the failed snapshots; in a big store only once somebody is here to see it."""
        failed = failed_of(catalogue)
        known = self.hold.insights.damage.get(catalogue.store)
        if known is not None and known.of == frozenset(failed):
            if self._damage is not known:
                self._take(known)
            return
        if not failed:
            self.hold.insights.damage.pop(catalogue.store, None)
            self._damage = None
            self._lost.set_rows(())
            self.show_all()
        elif (is_small(catalogue) or self.is_shown) and not self.is_reading:
            self.action_trace()

    def action_trace(self) -> None:
        catalogue = self.catalogue
        if catalogue is None:
            return
        self._tried.add(self.store_name)
        insights, store, failed = self.hold.insights, self.store_name, failed_of(catalogue)
        if not failed:
            self.say("no snapshot of this store failed its verification")
            return
        self._lost.set_empty(f"tracing {fmt.plural(len(failed), 'failed snapshot')} ...")
        insights.damage.pop(store, None)
        self.read_long(
            "tracing the damage",
            lambda steps: insights.find_damage(store, failed, steps),
            lambda found: self._take(found) if store == self.store_name else None,
            failed=lambda error: self._lost.set_error(str(error), getattr(error, "hint", "") or ""),
        )

    def _take(self, found: Damage) -> None:
        self._damage = found
        self._lost.set_rows(found.chunks)
        self.show_all()
        self._look_elsewhere(found)

    def _look_elsewhere(self, found: Damage) -> None:
        """Which other stores hold sound files of the chunks."""
        reader = self.hold.reader
        others = [facts.name for facts in self.stores if facts.name != self.store_name]

        def look() -> dict[str, Copies]:
            return {
                chunk.digest.hex(): {
                    name: has
                    for name in others
                    if (has := _copy_in(reader, name, chunk)) is not None
                }
                for chunk in found.chunks
            }

        def then(copies: dict[str, Copies]) -> None:
            self._copies = copies
            self._lost.set_rows(self._lost.rows)
            self._show_ways()

        self.read(look, then, group="elsewhere")

    # Showing --------------------------------------------------------------------------------------

    def show_all(self) -> None:
        count = len(self._lost.rows)
        self._lost.title(f"{self.store_name or 'Verify'}: lost chunks ({count})", self.store_note)
        self._say_nothing_lost()
        self._show_chunk()
        self._show_coverage()

    def _say_nothing_lost(self) -> None:
        catalogue = self.catalogue
        if not self.stores:
            self._lost.set_empty("No store is configured.", "8 Stores: A makes or opens one.")
        elif catalogue is None or not catalogue.is_complete or self.is_reading:
            return
        elif failed_of(catalogue):
            if self._damage is not None and not self._damage.chunks:
                self._lost.set_empty(
                    f"{fmt.plural(len(self._damage.of), 'snapshot')} failed, but no chunk is lost.",
                    "An index, blob or manifest is damaged, or a backup healed it since:",
                    "o shows the log, V verifies again.",
                )
        else:
            self._lost.set_empty(
                f"{self.look.mark(Mark.OK)} No snapshot failed its last verification.",
                "The coverage says what was never verified, or long ago; V verifies what is due.",
                style="good",
            )

    def _show_chunk(self) -> None:
        chunk = self._lost.current
        hits = [] if chunk is None else model.hits_of(chunk)
        self._hits.title(
            f"Snapshots hit ({len({hit.snapshot for hit in hits})})", self.parts.place(self._hits)
        )
        self._hits.set_empty("None.")
        self._hits.set_rows(hits)
        self._show_files()
        self._show_ways()

    def _show_files(self) -> None:
        chunk = self._lost.current
        found = None if chunk is None else self._found.get(chunk.digest.hex())
        files = [] if found is None else model.files_of(found)
        gaps = [one.gap for one in found or () if one.gap]
        note = self.parts.place(self._files)
        self._files.title(f"Files hit ({len({file.path for file in files})})", note)
        if chunk is None:
            self._files.set_empty("None.")
        elif self.hold.gate.no_content:
            self._files.set_empty("File names are off (started with --no-content).")
        elif found is None:
            self._files.set_empty(
                "f finds the files.", "It reads the listings of the snapshots hit."
            )
        elif gaps:
            self._files.set_empty(clean(gaps[0]))
        if gaps and files:
            self.say(f"paths may be missing: {clean(gaps[0])}", "warn")
        self._files.set_rows(files)

    def _show_ways(self) -> None:
        chunk, hit, catalogue = self._lost.current, self._hits.current, self.catalogue
        self._ways.title("Ways out", self.parts.place(self._ways))
        self._ways.set_empty("None is needed.")
        if chunk is None or hit is None or catalogue is None or self._damage is None:
            self._ways.set_rows(())
            return
        self._ways.set_rows(
            model.ways_out(
                chunk,
                hit,
                copies=self._copies.get(chunk.digest.hex(), {}),
                catalogue=catalogue,
                reached=self._damage.reached,
                jobs=self.hold.job_board.jobs,
                store=self.store_name,
                now_s=self.now_s,
            )
        )

    def _show_coverage(self) -> None:
        catalogue = self.catalogue
        spaces = [] if catalogue is None else model.coverage(catalogue, self.now_s)
        total = sum(count for _ns, _counts, count in spaces)
        good = sum(counts.ok for _ns, counts, _count in spaces)
        percent = f"{100 * good / total:.1f}% within 30 days" if total else ""
        place = self.parts.place(self._coverage)
        self._coverage.name_pane(f"Verified: {percent}" if percent else "Coverage", place)
        width = max(8, min(20, self._coverage.content_size.width - 52))
        lines: list[Line] = []
        for ns, counts, count in spaces:
            rest = [
                (f"  {self.look.mark(mark)} {number} {word}", style)
                for mark, number, word, style in (
                    (Mark.OLD, counts.old, "old", "warn"),
                    (Mark.NONE, counts.never, "never", "dim"),
                    (Mark.BAD, counts.failed, "failed", "bad"),
                )
                if number
            ]
            name = str(ns) if ns.parts else "(root)"
            lines.append(
                [
                    (f" {name:<12.12} ", "text"),
                    *cells.good_bar(self.look, counts.ok / count, width),
                    (f" {counts.ok:,} of {count:,}", "text"),
                    *rest,
                ]
            )
        if not lines:
            lines = [[(" nothing to verify yet", "dim")]]
        self._coverage.set_lines(lines)

    # Messages and keys ----------------------------------------------------------------------------

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        if message.rows is self._lost:
            self._show_chunk()
            chunk = self._lost.current
            catalogue = self.catalogue
            is_wanted = chunk is not None and chunk.digest.hex() not in self._found
            if is_wanted and catalogue is not None and is_small(catalogue) and not self.is_reading:
                self._find_files()
        elif message.rows is self._hits:
            self._show_ways()

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        if message.rows is self._lost:
            self.parts.show(self._hits)
            self._hits.focus()
            self.show_all()
        elif message.rows is self._hits:
            hit: Hit = message.row
            if self.parts.is_small:
                self.parts.show(self._files)
                self._files.focus()
                self.show_all()
            else:
                self._go("detail", self.store_name, hit)
        elif message.rows is self._files:
            file: HitFile = message.row
            self.hold.go(
                "restore",
                Target(
                    store=self.store_name,
                    ns=str(file.snapshot.ns),
                    group=str(file.snapshot.group),
                    snapshot=str(file.snapshot),
                    archive=file.archive,
                ),
            )
        else:
            self._follow(message.row)

    def _go(self, view: str, store: str, hit: "Hit | WayOut") -> None:
        snapshot = hit.snapshot
        if snapshot is not None:
            self.hold.go(
                view,
                Target(
                    store=store,
                    ns=str(snapshot.ns),
                    group=str(snapshot.group),
                    snapshot=str(snapshot),
                ),
            )

    def _follow(self, way: WayOut) -> None:
        if way.changes and (refusal := self.refusal()):
            self.say(f"read-only: {way.way.value} is off ({refusal})", "warn")
        elif way.way is Way.VERIFY:
            self._verify_hit()
        elif way.way is Way.BACK_UP and way.job:
            self.do(
                run_job(
                    way.job,
                    "A new backup stores the lost data anew if the source still has it.",
                    "Verify the hit snapshots afterwards to see whether they are healed.",
                )
            )
        elif way.way is Way.BACK_UP:
            self._go("snapshots", way.store, way)
        elif way.snapshot is not None:
            self._go("restore", way.store, way)
        else:
            self.say(f"{way.store} has the chunk, but not this snapshot")

    def action_run(self) -> None:
        way = self._ways.current
        if way is None:
            self.say("there is no way out to follow")
        else:
            self._follow(way)

    def action_files(self) -> None:
        self._find_files()
        self.parts.show(self._files)
        self._files.focus()
        self.show_all()

    def _find_files(self) -> None:
        from holdfast.operations.affected import AffectedRequest, affected

        chunk = self._lost.current
        if chunk is None or self.hold.gate.no_content:
            return
        reader, store = self.hold.reader, self.store_name

        def find(steps: Steps) -> "list[AffectedArchive]":
            return affected(AffectedRequest(store=reader.open(store), digest=chunk.digest), steps)

        def then(found: "list[AffectedArchive]") -> None:
            self._found[chunk.digest.hex()] = found
            self._show_files()

        self.read_long("finding the files", find, then)

    def action_good(self) -> None:
        """To the newest backup of the group that no damage reaches, and there to the same path."""
        file = self._files.current if self.hold.focused is self._files else None
        of, catalogue, damage = file or self._hits.current, self.catalogue, self._damage
        if of is None or catalogue is None or damage is None:
            self.say("nothing here is damaged")
            return
        group = of.snapshot.group
        rows = catalogue.groups.get(group, ())
        good = model.newest_good(rows, damage.reached, self.now_s)
        if good is None:
            self.say(f"no backup of {group} is undamaged; the ways out tell more", "warn")
            return
        self.hold.go(
            "restore",
            Target(
                store=self.store_name,
                ns=str(group.ns),
                group=str(group),
                snapshot=str(good.snapshot),
                archive=of.archive,
                path="" if file is None else file.path,
            ),
        )

    def action_log(self) -> None:
        catalogue = self.catalogue
        hit = self._hits.current
        failed = [] if catalogue is None else failed_of(catalogue)
        mine = [upid for snapshot, upid in failed if hit is None or snapshot == hit.snapshot]
        if mine or failed:
            self.hold.go("tasks", Target(upid=(mine or [failed[0][1]])[0]))
        else:
            self.say("no verification of this store failed")

    def action_verify(self) -> None:
        if self._lost.rows:
            self._verify_hit()
            return
        self.do(
            Request(
                title=f"Verify what is due in {self.store_name}",
                store=self.store_name,
                words=("verify", "--outdated-after", str(_DUE_DAYS)),
                facts=(
                    f"Reads every snapshot again that was not verified for {_DUE_DAYS} days.",
                    "Each chunk is read once; damaged ones are set aside.",
                ),
            )
        )

    def _verify_hit(self) -> None:
        marks = self._hits.marks
        chunk = self._lost.current
        if marks:
            chosen = list(dict.fromkeys(hit.snapshot for hit in self._hits.chosen()))
        else:
            chosen = [] if chunk is None else list(chunk.snapshots)
        if not chosen:
            self.say("there is no snapshot to verify")
            return
        first, *more = commands("verify", chosen)
        self.do(
            Request(
                title=f"Verify {named(chosen)}",
                store=self.store_name,
                words=first,
                more=tuple(more),
                facts=("Tells whether they are healed, and marks them.",),
            )
        )

    def action_store(self, step: int) -> None:
        self._tried.add(self.store_name)  # from now on the person chooses
        super().action_store(step)

    def leave_state(self) -> bool:
        if super().leave_state():
            return True
        if self.hold.focused is not self._lost and self._lost.rows:
            self._lost.focus()
            return True
        return False

    def twin(self) -> Sequence[str] | None:
        chunk = self._lost.current
        return ("snapshots",) if chunk is None else ("affected", chunk.digest.hex())

    def copy_text(self) -> str:
        chunk = self._lost.current
        if self.hold.focused is self._files and self._files.current is not None:
            return self._files.current.path
        return "" if chunk is None else chunk.digest.hex()

    def reload(self) -> None:
        self.hold.insights.damage.pop(self.store_name, None)
        self._found = {}
        super().reload()


def _problem(chunk: "LostChunk") -> tuple[str, str]:
    return ("file missing", "bad") if chunk.set_aside_s is None else ("damaged", "bad")


def _copy_in(reader: "Reader", name: str, chunk: "LostChunk") -> frozenset[SnapshotId] | None:
    """Which of the snapshots hit the store has, too; None when it has no sound file of the chunk."""
    from holdfast.datastore import blob
    from holdfast.datastore.chunk_store import ChunkStore
    from holdfast.errors import HoldfastError

    try:
        store = reader.open(name)
        blob.check_crc(ChunkStore(store.base).read_raw(chunk.digest))
        return frozenset(snapshot for snapshot in chunk.snapshots if store.exists(snapshot))
    except (HoldfastError, OSError):
        return None
