"""Snapshots: stores, namespaces and groups on the left, their snapshots on the right."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize

from holdfast.datastore.manifest import CryptMode
from holdfast.ids import SnapshotId
from holdfast_tui import keymap
from holdfast_tui.insights import failed_of, is_small
from holdfast_tui.model.explorer import Level, Node, Tree, group_name, ns_words, snapshots_of
from holdfast_tui.model.request import Target
from holdfast_tui.model.rows import Column
from holdfast_tui.model.snapshots import Catalogue, SnapshotRow
from holdfast_tui.model.stores import StoreFacts
from holdfast_tui.model.tasks import TaskBoard
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.render.look import STYLE_OF_MARK, Mark
from holdfast_tui.screens.snapshots.actions import SnapshotActions
from holdfast_tui.screens.snapshots.cells import flags_cell, verify_cell
from holdfast_tui.widgets.linepane import LinePane
from holdfast_tui.widgets.rowlist import RowList
from holdfast_tui.widgets.strips import Line, Part

_CRYPT = {
    CryptMode.NONE: "not encrypted",
    CryptMode.ENCRYPT: "encrypted",
    CryptMode.SIGN_ONLY: "signed",
}
_MANY = 2000
_WIDE = 100
_HIGH = 28


class SnapshotsView(SnapshotActions):
    """The explorer. One pane in a narrow terminal, two side by side in a wide one."""

    VIEW: ClassVar[str] = "snapshots"
    TITLE: ClassVar[str] = "Snapshots"
    HELP: ClassVar[str] = (
        "Namespaces and groups on the left, their snapshots on the right: l goes in, h out.\n"
        "Flags are P protected, E encrypted (S signed, M mixed), N with a note, I incomplete.\n"
        "`only` is what no other snapshot holds: what forgetting it would really free."
    )
    BINDINGS: ClassVar[list[BindingType]] = keymap.bindings("snapshots")
    DEFAULT_CSS = """
    SnapshotsView #both { height: 1fr; }
    SnapshotsView #groups { width: 100%; }
    SnapshotsView #right { width: 1fr; height: 1fr; }
    SnapshotsView #info { height: 7; display: none; }
    SnapshotsView.-info #info { display: block; }
    SnapshotsView.-wide #groups { width: 38%; max-width: 56; }
    SnapshotsView.-narrow #right { display: none; }
    SnapshotsView.-narrow.-inside #right { display: block; }
    SnapshotsView.-narrow.-inside #groups { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._stores: list[StoreFacts] = []
        self._tree = Tree()
        self._folded: set[str] = set()
        self._node: Node | None = None
        self._wants: Target | None = None
        self._now_s = 0.0
        self._busy: dict[tuple[str, str], str] = {}
        self._info_wanted: bool | None = None
        self._counted_for: dict[str, frozenset[SnapshotId]] = {}
        self._known_facts: dict[int, tuple[SnapshotRow, dict[str, str]]] = {}

        self._groups: RowList[Node] = RowList(
            self._group_columns(),
            key_of=lambda node: node.key,
            facts_of=lambda node: {"group": node.title, "verify": _word(node.mark[0])},
            is_problem=lambda node: node.mark[0] in (Mark.BAD, Mark.LOST),
            id="groups",
            classes="pane",
        )
        self._snapshots: RowList[SnapshotRow] = RowList(
            self._columns(flat=False),
            key_of=lambda row: row.snapshot,
            facts_of=self._facts_of,
            age_of=lambda row: self._now_s - row.time_s,
            is_problem=self._is_problem,
            marks_allowed=True,
            id="snapshots",
            classes="pane",
        )
        self._info = LinePane(id="info", classes="pane")

    def compose(self) -> ComposeResult:
        with Horizontal(id="both"):
            yield self._groups
            with Vertical(id="right"):
                yield self._snapshots
                yield self._info

    def on_mount(self) -> None:
        self.groups.title("Namespaces and groups")
        self.snapshots.title("Snapshots")
        self.groups.set_empty("reading the stores ...")
        self.snapshots.set_empty("reading ...")

    # Columns --------------------------------------------------------------------------------------

    def _group_columns(self) -> list[Column[Node]]:
        return [
            Column(title="group", cell=self._label, width_min=14),
            Column(title="verify", cell=self._group_state, width=11),
            Column(title="snaps", cell=lambda node: f"{node.total:,}", width=6, right=True),
        ]

    def _label(self, node: Node) -> tuple[str, str]:
        fold = "" if node.is_open is None else ("v " if node.is_open else "> ")
        if self.look.unicode and fold:
            fold = "▾ " if node.is_open else "▸ "
        indent = "  " * node.depth
        style = {Level.STORE: "strong", Level.NAMESPACE: "title", Level.GROUP: "text"}[node.level]
        return f"{indent}{fold}{node.label}", style

    def _group_state(self, node: Node) -> tuple[str, str]:
        if node.trouble:
            return f"{self.look.mark(Mark.LOST)} {node.trouble}", "lost"
        if node.group is not None:
            kind = self._busy.get((node.store, node.title))
            if kind is not None:
                return f"{self.look.mark(Mark.RUN)} {kind}", "run"
        mark, number = node.mark
        if not node.total:
            return "", "dim"
        words = {Mark.OK: "ok", Mark.NONE: "never"}
        word = words.get(mark, f"{number:,}" if number else "")
        if mark is Mark.NONE and number < node.total:
            word = f"{number:,} never"
        return f"{self.look.mark(mark)} {word}", STYLE_OF_MARK[mark]

    def _columns(self, *, flat: bool) -> list[Column[SnapshotRow]]:
        group: list[Column[SnapshotRow]] = []
        if flat:
            group = [
                Column(
                    title="group",
                    cell=lambda row: group_name(row.snapshot.group),
                    width_min=12,
                    sort=lambda row: (str(row.snapshot.ns), row.snapshot.group.sort_key),
                )
            ]
        return [
            *group,
            Column(
                title="time",
                cell=lambda row: fmt.moment(row.time_s),
                width=16,
                sort=lambda row: -row.time_s,
            ),
            Column(
                title="age",
                cell=lambda row: (fmt.age(self._now_s - row.time_s), "dim"),
                width=6,
                right=True,
                rank=3,
            ),
            Column(
                title="verify",
                cell=lambda row: verify_cell(row, self.look, self._now_s, self._lost(row)),
                width=12,
                sort=lambda row: (not self._is_problem(row), row.verified_s or 0),
            ),
            Column(title="flags", cell=flags_cell, width=5, sort=lambda row: row.flags),
            Column(
                title="size",
                cell=lambda row: fmt.size(row.summary.size or None),
                width=8,
                right=True,
                rank=1,
                sort=lambda row: -row.summary.size,
            ),
            Column(
                title="only",
                cell=self._only_cell,
                width=8,
                right=True,
                sort=lambda row: -(self._only(row) or 0),
            ),
            Column(title="note", cell=lambda row: (_one_line(row), "dim"), width_min=8, rank=4),
        ]

    def _facts_of(self, row: SnapshotRow) -> dict[str, str]:
        """For filters; texts of thousands of times cost too much for every letter typed."""
        known = self._known_facts.get(id(row))
        if known is None or known[0] is not row:
            known = (row, dict(row.facts(self._now_s)))
            self._known_facts[id(row)] = known
        return known[1]

    def _prepare_filters(self, catalogue: Catalogue) -> None:
        """Make the texts of a long list before somebody types."""
        if len(self._known_facts) > 2 * catalogue.count + _MANY:
            self._known_facts = {}
        if catalogue.count > _MANY:
            rows = list(catalogue.rows)
            self.read(
                lambda: [self._facts_of(row) for row in rows], lambda _facts: None, group="facts"
            )

    def _only(self, row: SnapshotRow) -> int | None:
        measured = self.hold.insights.usage.get(self.store_name)
        return None if measured is None else measured.usage.snapshots.get(row.snapshot)

    def _only_cell(self, row: SnapshotRow) -> tuple[str, str]:
        only = self._only(row)
        return fmt.size(only), "dim" if only is None else "text"

    def _lost(self, row: SnapshotRow) -> int:
        damage = self.hold.insights.damage.get(self.store_name)
        return 0 if damage is None else damage.reached.get(row.snapshot, 0)

    def _is_problem(self, row: SnapshotRow) -> bool:
        bad = row.verify_mark(self._now_s) in (Mark.BAD, Mark.LOST, Mark.WARN)
        return bad or self._lost(row) > 0

    # Facts ----------------------------------------------------------------------------------------

    @property
    def groups(self) -> RowList[Node]:
        return self._groups

    @property
    def snapshots(self) -> RowList[SnapshotRow]:
        return self._snapshots

    @property
    def node(self) -> Node | None:
        return self._node

    def stores_seen(self, stores: Sequence[StoreFacts]) -> None:
        self._stores = list(stores)
        self._show_groups()

    def catalogue_seen(self, catalogue: Catalogue) -> None:
        self._show_groups()
        if self._wants is not None and catalogue.store in (
            "",
            self._wants.store or catalogue.store,
        ):
            self._go_to(self._wants, is_complete=catalogue.is_complete)
        if catalogue.is_complete and self.is_shown:
            self._prepare_filters(catalogue)
        if catalogue.store == self.store_name and catalogue.is_complete and self.is_shown:
            self._look_deeper(catalogue)

    def tasks_seen(self, board: TaskBoard) -> None:
        running = {(task.store, _group_of(task.target)): task.kind for task in board.running}
        if running != self._busy:
            ended = self._busy.keys() - running.keys()
            self._busy = running
            self._show_groups()
            if ended and self.store_name:
                self._load_usage()

    def shown(self) -> None:
        self._now_s = self.now_s
        self._known_facts = {}  # what is outdated may have become so
        self._fit()
        if self.store_name:
            self._load_usage()

    def _show_groups(self) -> None:
        self._now_s = self.now_s
        catalogues = self.hold.catalogues
        nodes = self._tree.rows(self._stores, catalogues, self._folded, self._now_s)
        is_read = self.hold.has_looked_for_stores
        if is_read and not self._stores:
            self.groups.set_empty(
                "No store is configured.", "8 Stores: A makes or opens one.", style="warn"
            )
            self.snapshots.set_empty("No store, no snapshots.")
        reading = [each for each in catalogues.values() if not each.is_complete]
        note = " ".join(f"reading {each.done:,} of {each.total:,}" for each in reading)
        total = sum(node.level is Level.GROUP for node in nodes)
        self.groups.title("Namespaces and groups", note or f"{total:,} groups")
        self.groups.set_rows(nodes)
        if self._node is None and nodes:
            self._show_node(self.groups.current)
        else:
            self._show_node(self._same_node(nodes))

    def _same_node(self, nodes: Sequence[Node]) -> Node | None:
        key = None if self._node is None else self._node.key
        found = next((node for node in nodes if node.key == key), None)
        return found or self.groups.current

    def _show_node(self, node: Node | None) -> None:
        rows = self.snapshots
        before = self._node
        self._node = node
        if node is None:
            rows.set_rows(())
            return
        is_other = before is None or before.key != node.key
        if is_other:
            self.store_name = node.store
            rows.set_columns(self._columns(flat=node.group is None))
            if rows.marks:
                rows.set_marks(())
        catalogue = self.hold.catalogues.get(node.store)
        rows.set_rows(snapshots_of(node, catalogue))
        if is_other:
            rows.action_edge(-1)
            if before is None or before.store != node.store:
                self._load_usage()
        self._say_empty(node, catalogue)
        self._name_snapshots()
        self._show_info()

    def _say_empty(self, node: Node, catalogue: Catalogue | None) -> None:
        if node.trouble:
            self.snapshots.set_error(node.trouble, "holdfast doctor looks for the reason")
        elif catalogue is None or (not catalogue.is_complete and not node.total):
            self.snapshots.set_empty("reading the snapshots ...")
        else:
            self.snapshots.set_empty(
                f"No snapshots in {node.title}.",
                "B backs up now; 7 Sched: A adds a job that does it every day."
                if not self.refusal()
                else "The first backup makes a group.",
            )

    def _name_snapshots(self) -> None:
        node = self._node
        if node is None:
            return
        notes = []
        chosen = self.snapshots.chosen() if self.snapshots.marks else []
        if chosen:
            notes.append(f"{fmt.size(sum(row.summary.size for row in chosen))} in all")
            only = [self._only(row) for row in chosen]
            if all(size is not None for size in only):
                total = sum(size or 0 for size in only)
                notes.append(f"at least {fmt.size(total)} only")
        self.snapshots.title(
            f"{node.title}: {fmt.plural(node.total, 'snapshot')}",
            f" {self.look.dot} ".join(notes),
        )

    # Deeper facts, read in threads -----------------------------------------------------------------

    def _load_usage(self) -> None:
        store = self.store_name
        insights = self.hold.insights
        self.read(
            lambda: insights.load_usage(store),
            lambda _found: self._figures_changed(),
            group="usage",
            failed=lambda _error: None,
        )

    def _look_deeper(self, catalogue: Catalogue) -> None:
        """What a small store tells at once; a big one only when it is asked for."""
        if not is_small(catalogue):
            return
        insights, store = self.hold.insights, catalogue.store
        failed = failed_of(catalogue)
        known = insights.damage.get(store)
        if failed and (known is None or known.of != frozenset(failed)):
            from holdfast_tui.insights import Steps

            self.read(
                lambda: insights.find_damage(store, failed, Steps()),
                lambda _found: self._figures_changed(),
                failed=lambda _error: None,
                group="damage",
            )
        elif not failed:
            insights.damage.pop(store, None)
        every = frozenset(row.snapshot for row in catalogue.rows)
        if self._counted_for.get(store) != every:
            self._counted_for[store] = every
            self.read(
                lambda: insights.usage_of(store, _with_chunks(catalogue)),
                lambda _found: self._figures_changed(),
                failed=lambda _error: None,
                group="count",
            )

    def _count(self, store: str) -> None:
        insights = self.hold.insights
        self.read_long(
            "counting what each snapshot alone holds",
            lambda steps: insights.measure_usage(store, steps),
            lambda _found: self._figures_changed(),
        )

    def _figures_changed(self) -> None:
        self.snapshots.set_rows(self.snapshots.rows)
        self._name_snapshots()
        self._show_info()

    # Info pane ------------------------------------------------------------------------------------

    def _show_info(self) -> None:
        row = self.snapshots.current
        info = self._info
        if row is None:
            info.name_pane("Snapshot")
            info.set_lines([])
            return
        summary = row.summary
        info.name_pane(f"{summary.snapshot}", "i hides this")
        lines: list[Line] = []
        if summary.damage is not None:
            lines.append([(f" {clean(summary.damage)}", "lost")])
        if summary.is_unfinished:
            lines.append(
                [(" A backup runs, or ended before its time; prune removes the rest.", "warn")]
            )
        room = max(1, info.content_size.height - 2 - bool(summary.comment))
        lines.extend(
            [
                (f" {clean(archive.name):<24.24} ", "text"),
                (f"{fmt.size(archive.size):>9}  ", "text"),
                (_CRYPT[archive.crypt_mode], "dim"),
            ]
            for archive in summary.archives[:room]
        )
        hidden = len(summary.archives) - room
        if hidden > 0:
            lines[-1] = [*lines[-1], (f"   (+{hidden} more: enter)", "dim")]
        lines += self._info_facts(row)
        if summary.comment:
            lines.append([(" note   ", "dim"), (_one_line(row), "text")])
        info.set_lines(lines)

    def _info_facts(self, row: SnapshotRow) -> list[Line]:
        owner: list[Part] = [(" owner  ", "dim"), (clean(row.summary.owner) or "-", "text")]
        if row.verified_s is not None:
            owner += [("   verify ", "dim")]
            owner += [verify_cell(row, self.look, self._now_s, self._lost(row))]
            owner += [(f" at {fmt.moment(row.verified_s)}", "dim")]
        measured = self.hold.insights.usage.get(self.store_name)
        if measured is not None:
            only: list[Part] = [(" only   ", "dim"), (fmt.size(self._only(row)), "text")]
            only += [(f" as of {fmt.clock(measured.at_s, self._now_s)}", "dim")]
        else:
            only = [(" only   ", "dim"), ("not counted: c does it", "dim")]
        return [owner, only]

    # Messages and keys ----------------------------------------------------------------------------

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        if message.rows is self.groups:
            if message.row is not None and (
                self._node is None or self._node.key != message.row.key
            ):
                self._show_node(message.row)
        else:
            self._show_info()

    def on_row_list_marked(self, message: RowList.Marked) -> None:
        if message.rows is self.snapshots:
            self._name_snapshots()

    def on_row_list_opened(self, message: RowList.Opened) -> None:
        if message.rows is self.groups:
            self.action_inside()
            return
        row: SnapshotRow = message.row
        self.hold.go("detail", self.target_of(row))

    def target_of(self, row: SnapshotRow) -> Target:
        return Target(
            store=self.store_name,
            ns=str(row.snapshot.ns),
            group=str(row.snapshot.group),
            snapshot=str(row.snapshot),
        )

    def action_inside(self) -> None:
        node = self.groups.current
        if self.hold.focused is self.snapshots:
            self.snapshots.action_open()
            return
        if node is None:
            return
        if node.is_open is False:
            self._folded.discard(node.key)
            self._show_groups()
        else:
            self.add_class("-inside")
            self.snapshots.focus()

    def action_outside(self) -> None:
        if self.hold.focused is not self.groups:
            self._go_out()
            return
        node = self.groups.current
        if node is None:
            return
        if node.is_open:
            self._folded.add(node.key)
            self._show_groups()
            return
        above = [each for each in self.groups.rows if each.depth < node.depth]
        above = [each for each in above if each.store == node.store]
        parent = [each for each in above if node.ns.parts[: len(each.ns.parts)] == each.ns.parts]
        parent = [each for each in parent if each.group is None]
        if parent:
            self.groups.go_to(parent[-1].key)

    def _go_out(self) -> None:
        self.remove_class("-inside")
        self.groups.focus()
        if self._node is not None:
            self.groups.go_to(self._node.key)

    def action_everything(self) -> None:
        store = next((node for node in self.groups.rows if node.store == self.store_name), None)
        if store is None:
            self.say("no store is open")
            return
        self.groups.go_to(store.key)
        self._show_node(store)
        self.add_class("-inside")
        self.snapshots.focus()

    def action_info(self) -> None:
        self._info_wanted = not self.has_class("-info")
        self._fit()
        if self.has_class("-narrow") and not self.has_class("-inside"):
            self.action_inside()

    def action_count(self) -> None:
        if self.store_name:
            self._count(self.store_name)

    def leave_state(self) -> bool:
        if super().leave_state():
            return True
        if self.snapshots.marks and self.hold.focused is self.snapshots:
            self.snapshots.action_mark_none()
            return True
        if self.hold.focused is self.snapshots:
            self._go_out()
            return True
        return False

    def focus_first(self) -> None:
        panes = self.panes()
        if panes and self.hold.focused not in panes:
            (self.snapshots if self.snapshots in panes and self._wants else panes[0]).focus()

    # Where one is ---------------------------------------------------------------------------------

    def open_target(self, target: Target) -> None:
        self._wants = target
        store = target.store or next((facts.name for facts in self._stores), "")
        catalogue = self.hold.catalogues.get(store)
        if catalogue is not None:
            self._go_to(target, is_complete=catalogue.is_complete)
        if target.filter:
            self.snapshots.set_filter(target.filter)

    def _go_to(self, target: Target, *, is_complete: bool) -> None:
        for node in self.groups.rows:
            if target.store and node.store != target.store:
                continue
            if str(node.ns) == target.ns and str(node.group or "") == target.group:
                self._wants = None
                self.groups.go_to(node.key)
                self._show_node(node)
                self._enter_target(target)
                return
        if is_complete:
            self._wants = None
            self.say(f"there is no {target.group or target.ns or target.store} any more", "warn")

    def _enter_target(self, target: Target) -> None:
        if target.snapshot:
            for row in self.snapshots.rows:
                if str(row.snapshot) == target.snapshot:
                    self.snapshots.go_to(row.snapshot)
        if target.group or target.filter:
            self.add_class("-inside")
            self.snapshots.focus()

    def crumbs(self) -> str:
        node = self._node
        if node is None:
            return "snapshots"
        names = [node.store, *node.ns.parts]
        if node.group is not None:
            names.append(node.label)
        return f" {self.look.arrow} ".join(names)

    def twin(self) -> Sequence[str] | None:
        node = self._node
        if node is None:
            return ("snapshots",)
        group = (str(node.group),) if node.group is not None else ("--all-namespaces",)
        return ("snapshots", *ns_words(node.ns), *group)

    def copy_text(self) -> str:
        if self.hold.focused is self.groups:
            return "" if self._node is None else self._node.title
        row = self.snapshots.current
        return "" if row is None else str(row.snapshot)

    def reload(self) -> None:
        self.hold.insights.damage.pop(self.store_name, None)
        super().reload()

    def on_resize(self, event: Resize) -> None:
        del event
        self._fit()

    def _fit(self) -> None:
        wide = self.size.width >= _WIDE
        self.set_class(wide, "-wide")
        self.set_class(not wide, "-narrow")
        high = self.hold.size.height >= _HIGH
        self.set_class(high if self._info_wanted is None else self._info_wanted, "-info")
        if self.has_class("-info"):
            self.call_after_refresh(self._show_info)


def _with_chunks(catalogue: Catalogue) -> set[SnapshotId]:
    """Snapshots that have indexes; of others nothing is counted."""
    return {
        row.snapshot
        for row in catalogue.rows
        if any(name.endswith("idx") for one in row.summary.archives for name in one.filenames)
    }


def _one_line(row: SnapshotRow) -> str:
    return " / ".join(clean(line) for line in row.summary.comment.splitlines() if line.strip())


def _group_of(target: str) -> str:
    """`host/web1/2026-..Z` and `host/web1` are both of the group `host/web1`."""
    head, _slash, last = target.rpartition("/")
    return head if last.endswith("Z") and last[:4].isdigit() and "T" in last else target


def _word(mark: Mark) -> str:
    return {Mark.OK: "ok", Mark.BAD: "failed", Mark.OLD: "outdated", Mark.NONE: "never"}.get(
        mark, "unfinished" if mark is Mark.WARN else "unreadable"
    )
