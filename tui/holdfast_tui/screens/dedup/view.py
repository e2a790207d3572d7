"""Dedup & GC: how well chunks are shared, who holds the space, and what a collection would free."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from holdfast_tui import keymap
from holdfast_tui.insights import Steps, is_small
from holdfast_tui.model.explorer import ns_words
from holdfast_tui.model.jobs import JobBoard
from holdfast_tui.model.request import Request, Target
from holdfast_tui.model.rows import Column
from holdfast_tui.model.snapshots import Catalogue
from holdfast_tui.model.space import Holder, holders_of, sharing_name
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import Task, TaskBoard
from holdfast_tui.render import fmt
from holdfast_tui.render.look import Look, Mark
from holdfast_tui.screens import cells
from holdfast_tui.screens.one_store import OneStore
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.parts import FactPane, Parts
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line, Part

if TYPE_CHECKING:
    from holdfast.operations.usage import Measured

_PHASES = ("mark", "sweep")
_STALE_DAYS = 7


class DedupView(OneStore):
    """One store at a time."""

    VIEW: ClassVar[str] = "dedup"
    TITLE: ClassVar[str] = "Dedup & GC"
    HELP: ClassVar[str] = (
        "How well chunks are shared and who really holds the space: bytes only one group has.\n"
        "Mark groups with space to see what removing all of their snapshots would free.\n"
        "A measures again (a job that reads the indexes); C frees what no snapshot needs."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("dedup")
    DEFAULT_CSS = """
    DedupView #facts { height: 6; }
    DedupView.-high #facts { height: 7; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._collecting: Task | None = None
        self._was_measuring = False
        self._tried: set[str] = set()
        self._if_removed = ""
        self._facts = LinePane(id="facts", classes="pane")
        self._who: RowList[Holder] = RowList(
            self._columns(),
            key_of=lambda holder: str(holder.group.path),
            facts_of=lambda holder: {"group": holder.name},
            marks_allowed=True,
            id="who",
            classes="pane",
        )
        self._sizes = FactPane(id="sizes", classes="pane")
        self._sharing = FactPane(id="sharing", classes="pane")
        self._gc = FactPane(id="gc", classes="pane")
        self.parts = Parts(self._who, self._sizes, self._sharing, self._gc, id="parts")

    def compose(self) -> ComposeResult:
        yield self._facts
        yield self.parts

    def on_mount(self) -> None:
        self._facts.name_pane("Deduplication")
        self._who.title("Who uses the space")
        self._who.set_empty("reading ...")

    def _columns(self) -> list[Column[Holder]]:
        return [
            Column(
                title="group",
                cell=lambda holder: holder.name,
                width_min=12,
                sort=lambda holder: holder.name,
            ),
            Column(
                title="snaps",
                cell=lambda holder: fmt.count(holder.snapshots),
                width=6,
                right=True,
                rank=1,
                sort=lambda holder: -holder.snapshots,
            ),
            Column(
                title="only it has",
                cell=lambda holder: fmt.size(holder.only),
                width=11,
                right=True,
                sort=lambda holder: -holder.only,
            ),
            Column(title="", cell=self._share, width=12, rank=2),
        ]

    def _share(self, holder: Holder) -> tuple[str, str]:
        most = max((each.only for each in self._who.rows), default=0)
        if not self.look.unicode:
            return "#" * round(12 * holder.only / most) if most else "", "bar"
        full, _empty = self.look.bar(holder.only / most if most else 0, 12)
        return full, "bar"

    # Facts ----------------------------------------------------------------------------------------

    def stores_seen(self, stores: Sequence[StoreFacts]) -> None:
        self.keep_store(stores, stores[0].name if stores else "")
        self.show_all()

    def catalogue_seen(self, catalogue: Catalogue) -> None:
        if catalogue.store == self.store_name and catalogue.is_complete:
            self._show_holders()
            self._measure_if_small()

    def tasks_seen(self, board: TaskBoard) -> None:
        mine = [task for task in board.running if task.store == self.store_name]
        was_collecting = self._collecting is not None
        self._collecting = next((task for task in mine if task.kind == "gc"), None)
        if was_collecting and self._collecting is None:
            self.hold.look_soon()
        measuring = any(task.kind == "usage" for task in mine)
        if self._was_measuring and not measuring:
            self._load()
        self._was_measuring = measuring
        self._show_gc()

    def jobs_seen(self, board: JobBoard) -> None:
        del board
        self._show_gc()

    def shown(self) -> None:
        self.fit()
        if self.store_name:
            self._load()

    def open_target(self, target: Target) -> None:
        self.choose_store(target.store)

    def another_store(self) -> None:
        self._if_removed = ""
        self._who.set_marks(())
        self._who.set_rows(())
        if self.store_name:
            self._load()
        self.show_all()

    @property
    def store(self) -> StoreFacts | None:
        return next((facts for facts in self.stores if facts.name == self.store_name), None)

    @property
    def measured(self) -> "Measured | None":
        return self.hold.insights.usage.get(self.store_name)

    def _load(self) -> None:
        insights, store = self.hold.insights, self.store_name

        def then(found: "Measured | None") -> None:
            self.show_all()
            if found is None:
                self._measure_if_small()

        self.read(
            lambda: insights.load_usage(store),
            then,
            failed=lambda error: self._who.set_error(str(error)),
            group="usage",
        )

    def _measure_if_small(self) -> None:
        """Figures of a small store cost nothing; a big one waits for A."""
        catalogue = self.catalogue
        if self.measured is not None or catalogue is None or not catalogue.is_complete:
            return
        if not is_small(catalogue) or self.store_name in self._tried:
            return
        self._tried.add(self.store_name)
        insights, store = self.hold.insights, self.store_name
        self.read(
            lambda: insights.usage_of(store),
            lambda _found: self.show_all(),
            failed=lambda error: self._who.set_error(str(error), getattr(error, "hint", "") or ""),
            group="measure",
        )

    # Showing --------------------------------------------------------------------------------------

    def show_all(self) -> None:
        self._show_facts()
        self._show_holders()
        self._show_sizes()
        self._show_sharing()
        self._show_gc()

    def _show_facts(self) -> None:
        store, measured = self.store, self.measured
        if store is None:
            self._facts.name_pane("Deduplication")
            self._facts.set_lines(
                [[], [(" No store is configured. 8 Stores: A makes one.", "warn")]]
            )
            return
        if store.error:
            self._facts.name_pane(store.name)
            self._facts.set_lines(
                [
                    [(f" {self.look.mark(Mark.LOST)} {store.error}", "lost")],
                    [(f" {store.hint}", "dim")],
                ]
            )
            return
        logical, stored = self._sums(store, measured)
        if logical is None or stored is None:
            title = f"{store.name}: never measured"
        else:
            factor = fmt.factor(logical / stored if stored else 1.0)
            title = (
                f"{store.name}: {fmt.size(stored)} stored for {fmt.size(logical)} of backups,"
                f" dedup {factor}"
            )
        self._facts.name_pane(title, self.store_note)
        self._facts.set_lines(self._fact_lines(store, measured))

    def _sums(
        self, store: StoreFacts, measured: "Measured | None"
    ) -> tuple[int | None, int | None]:
        if measured is not None:
            return measured.usage.logical_bytes, measured.usage.stored_bytes
        return store.logical, store.stored

    def _fact_lines(self, store: StoreFacts, measured: "Measured | None") -> list[Line]:
        width = max(10, min(40, self._facts.content_size.width - 58))
        of = f"  {fmt.size(store.used)} of {fmt.size(store.total)} on its file system"
        lines: list[Line] = [
            [
                (" disk        ", "dim"),
                *cells.usage_bar(self.look, store.used_part, width),
                (of, "text"),
            ]
        ]
        if measured is None:
            lines.append([(" chunks      ", "dim"), (fmt.count(store.chunks), "text")])
        else:
            usage = measured.usage
            mean = usage.chunk_bytes // usage.chunks if usage.chunks else 0
            packed = usage.stored_bytes / usage.chunk_bytes if usage.chunk_bytes else 1.0
            text = f"{usage.chunks:,}, {fmt.size(mean)} on average, stored as {100 * packed:.0f}%"
            chunks: list[Part] = [(" chunks      ", "dim"), (text, "text")]
            if usage.missing_chunks:
                lost = f"   {self.look.mark(Mark.BAD)} {usage.missing_chunks:,} lost (6 Verify)"
                chunks.append((lost, "bad"))
            lines.append(chunks)
        reclaim: list[Part] = [(" to collect  ", "dim")]
        if store.last_gc is None:
            reclaim.append(("unknown until the first gc: C collects", "text"))
        else:
            reclaim += [
                (f"{fmt.size(store.pending)} were unused but too young", "text"),
                (f" at the gc of {fmt.moment(store.last_gc)}", "dim"),
            ]
        lines += [reclaim, self._age_line(measured)]
        if self._if_removed:
            lines.append([(" if removed  ", "dim"), (self._if_removed, "marked")])
        return lines

    def _age_line(self, measured: "Measured | None") -> list[Part]:
        if measured is None:
            if self._was_measuring:
                return [(" measured    ", "dim"), ("a job does it now: 4 Tasks", "run")]
            return [(" measured    ", "dim"), ("never: A reads the indexes, as a job", "warn")]
        age_s = self.now_s - measured.at_s
        took = f", took {fmt.span(measured.took_s)}" if measured.took_s >= 1 else ""
        old = age_s > _STALE_DAYS * 86400
        hint = "  A measures again" if old else ""
        text = f"{fmt.moment(measured.at_s)}, {fmt.age(age_s)} ago{took}{hint}"
        return [(" measured    ", "dim"), (text, "warn" if old else "text")]

    def _show_holders(self) -> None:
        measured = self.measured
        catalogue = self.catalogue
        self._who.title("Who uses the space", self.parts.place(self._who))
        if measured is None:
            if self.store is not None and not self.store.error and not self._tried:
                self._who.set_empty(
                    "Nobody has measured who uses the space.",
                    "A does it: a job that reads all indexes, and remembers it.",
                )
            self._who.set_rows(())
            return
        self._who.set_empty("No group in this store.", "2 Snaps: B makes a backup.")
        self._who.set_rows(holders_of(measured.usage, catalogue))

    def _show_sizes(self) -> None:
        self._sizes.name_pane("Chunk sizes, before compression", self.parts.place(self._sizes))
        measured = self.measured
        if measured is None or not measured.usage.chunks:
            self._sizes.set_lines([[(" nothing is measured yet", "dim")]])
            return
        classes = measured.usage.histogram
        most = max(one.chunks for one in classes)
        total = sum(one.data_bytes for one in classes) or 1
        width = max(6, self._sizes.content_size.width - 36)
        lines: list[Line] = [
            [(f" {'up to':>8}  {'':<{width}}{'chunks':>11}  {'of bytes':>8}", "head")]
        ]
        for one in classes:
            full = self._bar(one.chunks / most, width)
            lines.append(
                [
                    (f" {fmt.size(one.upto):>8}  ", "text"),
                    (f"{full:<{width}}", "bar"),
                    (f"{one.chunks:>11,}", "text"),
                    (f"  {100 * one.data_bytes / total:>7.1f}%", "dim"),
                ]
            )
        self._sizes.set_lines(lines)

    def _bar(self, part: float, width: int) -> str:
        if not self.look.unicode:
            return "#" * (max(1, round(part * width)) if part else 0)
        return self.look.bar(part, width)[0].rstrip() or ("▏" if part else "")

    def _show_sharing(self) -> None:
        self._sharing.name_pane("Sharing and growth", self.parts.place(self._sharing))
        measured = self.measured
        if measured is None or not measured.usage.chunks:
            self._sharing.set_lines([[(" nothing is measured yet", "dim")]])
            return
        usage = measured.usage
        width = max(6, self._sharing.content_size.width - 46)
        lines: list[Line] = [[(" chunks used by so many snapshots", "head")]]
        for at, one in enumerate(usage.shared_by):
            part = one.stored_bytes / usage.stored_bytes if usage.stored_bytes else 0
            lines.append(
                [
                    (f" {sharing_name(usage.shared_by, at):>9}  ", "text"),
                    (f"{self._bar(part, width):<{width}}", "bar"),
                    (f"{one.chunks:>10,} chunks", "text"),
                    (f"  {fmt.size(one.stored_bytes):>9}", "dim"),
                ]
            )
        mean = sum(usage.weeks) / max(1, len(usage.weeks))
        twice = [size for size in usage.weeks for _ in range(2)]
        store = self.store
        lines.append([])
        growth: list[Part] = [
            (f" {'12 weeks':>9}  ", "text"),
            (self.look.columns(twice, len(twice)), "graph"),
            (f"  {fmt.size(mean)} a week", "text"),
        ]
        if store is not None and store.free is not None and mean:
            growth.append((f", full in {fmt.age(7 * 86400 * store.free / mean)}", "dim"))
        lines.append(growth)
        self._sharing.set_lines(lines)

    def _show_gc(self) -> None:
        if not self.is_attached:
            return
        store = self.store
        self._gc.name_pane("Garbage collection", self._next_gc() or self.parts.place(self._gc))
        if store is None:
            self._gc.set_lines([])
            return
        lines: list[Line] = []
        if self._collecting is not None:
            width = max(8, min(24, self._gc.content_size.width - 40))
            lines += phase_lines(self._collecting, self.look, width)
        if store.last_gc is None:
            lines.append([(" Never ran here. C collects what no snapshot needs.", "text")])
        else:
            lines.append(
                [
                    (" last        ", "dim"),
                    (
                        f"{fmt.moment(store.last_gc)}, {fmt.age(self.now_s - store.last_gc)} ago",
                        "text",
                    ),
                ]
            )
            lines.append(
                [
                    (" freed       ", "dim"),
                    (fmt.size(store.removed), "good"),
                    (
                        f", {fmt.size(store.pending)} too young, {store.bad_chunks} set aside",
                        "text",
                    ),
                ]
            )
        if self._collecting is None:
            lines.append([(" Chunks touched within 24 h stay; backups may run.", "dim")])
        self._gc.set_lines(lines)

    def _next_gc(self) -> str:
        times = [
            job.upcoming[0]
            for job in self.hold.job_board.jobs
            if job.settings.kind.value == "gc"
            and job.upcoming
            and job.settings.store in (None, self.store_name)
        ]
        return f"next {fmt.moment(min(times))}" if times else ""

    # Keys -----------------------------------------------------------------------------------------

    def on_row_list_marked(self, message: RowList.Marked) -> None:
        del message
        if not self._who.marks:
            self._if_removed = ""
            self._show_facts()
            return
        catalogue = self.catalogue
        if catalogue is not None and is_small(catalogue):
            self.action_count()
        else:
            self._if_removed = f"{len(self._who.marks)} marked: c counts what that would free"
            self._show_facts()

    def action_count(self) -> None:
        """What removing every snapshot of the marked groups would free."""
        from holdfast.datastore.exclusive import freed_by_removing

        chosen = self._who.chosen()
        catalogue = self.catalogue
        if not chosen or catalogue is None:
            self.say("there is no group here")
            return
        selection = [
            row.snapshot for holder in chosen for row in catalogue.groups.get(holder.group, ())
        ]
        reader, store = self.hold.reader, self.store_name

        def count(steps: Steps) -> int:
            return freed_by_removing(reader.open(store), selection, observer=steps).total_bytes

        def then(size: int) -> None:
            names = chosen[0].name if len(chosen) == 1 else fmt.plural(len(chosen), "group")
            total = sum(holder.logical for holder in chosen)
            snapshots = fmt.plural(len(selection), "snapshot")
            self._if_removed = f"{names}, {snapshots}, {fmt.size(total)}: frees {fmt.size(size)}"
            self._show_facts()

        self.read_long("counting what this frees", count, then)

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        holder: Holder = message.row
        ns, group = str(holder.group.ns), str(holder.group)
        self.hold.go("snapshots", Target(store=self.store_name, ns=ns, group=group))

    def action_analyse(self) -> None:
        measured = self.measured
        took = "" if measured is None else f" Last time it took {fmt.span(measured.took_s)}."
        self.do(
            Request(
                title=f"Measure {self.store_name}",
                store=self.store_name,
                words=("usage",),
                facts=(
                    f"Reads every index and looks at every chunk file's length.{took}",
                    "Nothing in the store is changed; the figures are remembered.",
                ),
            )
        )

    def action_collect(self) -> None:
        store = self.store
        if store is None:
            return
        self.do(
            Request(
                title=f"Collect garbage in {store.name}",
                store=store.name,
                words=("gc",),
                facts=(
                    "Removes chunks that no snapshot names and nobody touched for a day.",
                    f"Last time: {fmt.size(store.removed)} freed, {fmt.size(store.pending)} too young.",
                ),
                word=store.name,
            )
        )

    def twin(self) -> Sequence[str] | None:
        holder = self._who.current
        if self.hold.focused is self._who and holder is not None:
            return ("stats", *ns_words(holder.group.ns), str(holder.group))
        return ("usage", "--cached")

    def copy_text(self) -> str:
        holder = self._who.current
        return self.store_name if holder is None else holder.name


def phase_lines(task: Task, look: Look, width: int) -> list[Line]:
    """Both phases of a running collection; the bar of the current one is `width` cells."""
    phase = "" if task.progress is None else task.progress.phase
    at = _PHASES.index(phase) if phase in _PHASES else -1
    lines: list[Line] = []
    for number, name in enumerate(_PHASES):
        head = f"phase {number + 1} of 2, {name:<6} "
        if number < at:
            lines.append([(f" {look.mark(Mark.OK)} {head}", "good"), ("done", "dim")])
        elif number == at:
            lines.append(
                [
                    (f" {look.mark(Mark.RUN)} {head}", "run"),
                    *cells.progress_bar(look, task, width),
                    (
                        f" {cells.percent(task)}  {cells.amount(task)}  {cells.left(task)}",
                        "text",
                    ),
                ]
            )
        else:
            lines.append([(f" {look.mark(Mark.NONE)} {head}", "dim"), ("to come", "dim")])
    if at < 0:
        lines.append([(f" {look.mark(Mark.RUN)} {task.word}", "run"), (f" {phase}", "dim")])
    return lines
