"""What can be done with chosen snapshots; the same in every view that shows some."""

import os
import shlex
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from holdfast.ids import SnapshotId
from holdfast_tui.insights import Steps
from holdfast_tui.model.explorer import (
    Level,
    Node,
    commands,
    each_command,
    named,
    ns_words,
    word_of,
)
from holdfast_tui.model.request import How, Request, Target, run_job
from holdfast_tui.model.snapshots import SnapshotRow
from holdfast_tui.render import fmt
from holdfast_tui.screens.long_reads import LongReads
from holdfast_tui.screens.snapshots import plans
from holdfast_tui.widgets.rowlist import RowList

if TYPE_CHECKING:
    from holdfast.operations.diff import DiffLine
    from holdfast.operations.forget import ForgetOutcome
    from holdfast.operations.prune import PrunePlan

_NAMED = 8
_DIFF_LINES_MAX = 20_000


def names_of(snapshots: Sequence[SnapshotId]) -> list[str]:
    """Facts of a question: which ones, at most a handful."""
    shown = [f"  {snapshot.ns}/{snapshot}".replace("  /", "  ") for snapshot in snapshots[:_NAMED]]
    hidden = len(snapshots) - len(shown)
    return [*shown, *([f"  (+{hidden} more)"] if hidden > 0 else [])]


class SnapshotActions(LongReads):
    """Verify, protect, note, forget, prune, compare, browse, back up."""

    # What subclasses show -------------------------------------------------------------------------

    @property
    def snapshots(self) -> "RowList[SnapshotRow]":
        """The list of snapshots; views of one snapshot override what uses it."""
        raise NotImplementedError

    @property
    def node(self) -> Node | None:
        """The store, namespace or group that is shown; None where it is one snapshot."""
        return None

    def current_row(self) -> SnapshotRow | None:
        """The snapshot under the cursor."""
        return self.snapshots.current

    def marked_rows(self) -> list[SnapshotRow]:
        """Those that are marked."""
        return self.snapshots.chosen() if self.snapshots.marks else []

    def group_rows(self) -> Sequence[SnapshotRow]:
        """Where the one before is looked for."""
        return self.snapshots.rows

    def is_on_snapshots(self) -> bool:
        """Whether snapshots are meant, not the whole node."""
        return self.hold.focused is self.snapshots or bool(self.snapshots.marks)

    def picked(self) -> list[SnapshotRow]:
        """The marked snapshots, or the one under the cursor."""
        rows = self.snapshots.chosen()
        if not rows:
            self.say("there is no snapshot here")
        return rows

    # Changes --------------------------------------------------------------------------------------

    def action_verify(self) -> None:
        node = self.node
        if self.is_on_snapshots():
            rows = [row for row in self.picked() if not row.summary.is_unfinished]
            if rows:
                self.verify_snapshots([row.snapshot for row in rows], _size_of(rows))
            return
        if node is None:
            return
        what = (str(node.group),) if node.group is not None else ()
        self.do(
            Request(
                title=f"Verify {node.title}",
                store=node.store,
                words=("verify", *ns_words(node.ns), *what),
                facts=(
                    f"Reads {fmt.plural(node.total, 'snapshot')} again and checks every chunk once.",
                    "Damaged chunks are set aside, so that the next backup can heal them.",
                ),
            )
        )

    def verify_snapshots(self, snapshots: Sequence[SnapshotId], size: int) -> None:
        """Ask, then read these again."""
        first, *more = commands("verify", snapshots)
        self.do(
            Request(
                title=f"Verify {named(snapshots)}",
                store=self.store_name,
                words=first,
                more=tuple(more),
                facts=(
                    f"Reads up to {fmt.size(size)}; what they share is read once.",
                    *(names_of(snapshots) if len(snapshots) > 1 else ()),
                ),
            )
        )

    def action_lock(self) -> None:
        rows = self.picked()
        if not rows:
            return
        wanted = not all(row.summary.is_protected for row in rows)
        chosen = [row.snapshot for row in rows if row.summary.is_protected != wanted]
        first, *more = each_command("protect" if wanted else "unprotect", chosen)
        self.do(
            Request(
                title=f"{'Protect' if wanted else 'Unprotect'} {named(chosen)}",
                store=self.store_name,
                words=first,
                more=tuple(more),
                how=How.SHORT,
                confirm=False,
                done=f"{named(chosen)}: {'protected from' if wanted else 'open to'} prune and forget",
            )
        )

    def action_comment(self) -> None:
        rows = self.picked()
        if not rows:
            return
        chosen = [row.snapshot for row in rows]
        value = rows[0].summary.comment if len(rows) == 1 else ""

        def write(text: str) -> None:
            if len(rows) == 1 and text == value:
                self.say("the note is as it was")
                return
            first, *more = each_command("comment", chosen, text)
            self.do(
                Request(
                    title=f"Note on {named(chosen)}",
                    store=self.store_name,
                    words=first,
                    more=tuple(more),
                    how=How.SHORT,
                    confirm=False,
                    done=f"{named(chosen)}: note {'written' if text else 'removed'}",
                )
            )

        if "\n" in value:
            self.say("this note has several lines; `holdfast comment` changes it", "warn")
            return
        self.hold.ask_line(f"note on {named(chosen)}", write, value=value)

    def action_forget(self) -> None:
        from holdfast.operations.forget import ForgetRequest, forget

        rows = self.picked()
        kept = [row for row in rows if row.summary.is_protected]
        chosen = [row.snapshot for row in rows if not row.summary.is_protected]
        if rows and not chosen:
            self.say(f"{named([row.snapshot for row in kept])}: protected, L lifts that", "warn")
        if not chosen:
            return
        store = self.store_name
        reader = self.hold.reader

        def count(steps: Steps) -> "ForgetOutcome":
            return forget(ForgetRequest(store=reader.open(store), snapshots=chosen), steps)

        self.read_long(
            "counting what this frees", count, lambda found: self._ask_to_forget(found, kept)
        )

    def _ask_to_forget(self, found: "ForgetOutcome", kept: Sequence[SnapshotRow]) -> None:
        chosen = list(found.snapshots)
        chunks = f"{found.chunk_count:,} chunks that nobody else has"
        facts = [
            f"Frees {fmt.size(found.freed_bytes)} ({found.freed_bytes:,} bytes): {chunks}.",
            "The files of the snapshots go now, their chunks at the next gc.",
        ]
        if kept:
            facts.append(f"{fmt.plural(len(kept), 'protected snapshot')} stay.")
        first, *more = commands("forget", chosen, "--yes")
        self.do(
            Request(
                title=f"Forget {named(chosen)}",
                store=self.store_name,
                words=first,
                more=tuple(more),
                how=How.SHORT,
                facts=(*facts, *names_of(chosen)),
                word=word_of(chosen),
                done=f"{named(chosen)}: forgotten; C on 5 Dedup collects the space",
            )
        )

    # Prune ----------------------------------------------------------------------------------------

    def action_prune(self) -> None:
        from holdfast_tui.model.retention import rules_text

        node = self.node
        if node is None:
            return
        reader = self.hold.reader
        self.read(
            lambda: rules_text(reader.settings_of(node.store).keep),
            lambda rules: self.hold.ask_line(
                f"keep in {node.title}",
                lambda text: self._plan_prune(node, text),
                value=rules or "last 3 daily 7 weekly 4 monthly 6",
            ),
            group="prune",
        )

    def _plan_prune(self, node: Node, text: str) -> None:
        from holdfast.errors import HoldfastError
        from holdfast_tui.model.retention import parse_rules, policy_of

        try:
            rules = parse_rules(text)
        except HoldfastError as error:
            self.hold.say_error(error)
            return
        reader = self.hold.reader
        group = None if node.group is None else str(node.group)

        def plan(steps: Steps) -> "PrunePlan":
            from holdfast.operations import prune

            request = prune.PruneRequest(
                store=reader.open(node.store), ns=node.ns, policy=policy_of(rules), group=group
            )
            return prune.plan(request, steps)

        self.read_long(
            "planning the prune",
            plan,
            lambda planned: self.hold.background(
                partial(self._show_prune, node, rules, planned), group="prune"
            ),
        )

    async def _show_prune(self, node: Node, rules: dict[str, int], planned: "PrunePlan") -> None:
        from holdfast_tui.model.retention import option_words

        going = planned.removals
        if not await self.hold.ask(plans.prune_dialog(node, planned, self.look)):
            self.say("nothing was changed")
            return
        group = () if node.group is None else (str(node.group),)
        freed = planned.freed.total_bytes if planned.freed is not None else None
        word = node.group.id if node.group is not None else node.label
        self.do(
            Request(
                title=f"Prune {node.title}: forget {named(going)}",
                store=node.store,
                words=("prune", *ns_words(node.ns), *group, *option_words(rules), "--yes"),
                facts=(
                    f"{len(planned.decisions) - len(going)} stay; gc can then free {fmt.size(freed)}.",
                    *names_of(going),
                ),
                word=word,
                paste_allowed=node.level is Level.GROUP,
            )
        )

    # New backup -----------------------------------------------------------------------------------

    def action_backup(self) -> None:
        self.hold.background(self._backup, group="backup")

    async def _backup(self) -> None:
        from holdfast_tui.dialogs.picker import Choice, Picker

        jobs = [
            job
            for job in self.hold.job_board.jobs
            if job.settings.kind.value == "backup" and job.settings.store in (None, self.store_name)
        ]
        choices = [Choice(f"job {job.name}", job.name, "", job.target) for job in jobs]
        choices.append(Choice("paths", "directories, images ...", "", "name them now"))
        answer: str | None = "paths"
        if jobs:
            answer = await self.hold.ask(Picker("Back up", choices))
        if answer == "paths":
            self.hold.ask_line("back up (DIR, name.pxar:DIR, name.img:FILE)", self._back_up)
        elif answer:
            self.do(run_job(answer.removeprefix("job ")))

    def _back_up(self, text: str) -> None:
        try:
            specs = [_at_home(word) for word in shlex.split(text)]
        except ValueError as error:
            self.say(f"{text!r}: {error}", "warn")
            return
        if not specs:
            return
        node = self.node
        group = None if node is None else node.group
        of = () if group is None else ("--type", group.type.value, "--id", group.id)
        ns = () if node is None else ns_words(node.ns)
        self.do(
            Request(
                title=f"Back up to {node.title if node is not None else self.store_name}",
                store=self.store_name or None,
                words=("backup", *ns, *of, "--", *specs),
                facts=("One new snapshot with these archives:", *(f"  {spec}" for spec in specs)),
            )
        )

    # Looking --------------------------------------------------------------------------------------

    def action_browse(self) -> None:
        row = self.current_row()
        if row is None:
            self.say("there is no snapshot here")
        elif row.summary.is_unfinished or row.summary.damage is not None:
            self.say(f"{row.snapshot} is {row.verify_word(0)}: nothing can be read from it", "warn")
        else:
            self.hold.go(
                "restore",
                Target(
                    store=self.store_name,
                    ns=str(row.snapshot.ns),
                    group=str(row.snapshot.group),
                    snapshot=str(row.snapshot),
                ),
            )

    def action_diff(self) -> None:
        pair = self._pair()
        if pair is None:
            return
        before, after = pair
        store, reader = self.store_name, self.hold.reader

        def compare(steps: Steps) -> "list[DiffLine]":
            from holdfast.archive.open import OpenSnapshot
            from holdfast.operations.diff import DiffRequest, diff

            opened = reader.open(store)
            found = []
            with OpenSnapshot(opened, before) as old, OpenSnapshot(opened, after) as new:
                for line in diff(old, new, DiffRequest()):
                    found.append(line)
                    steps.advance(items=1)
                    if len(found) > _DIFF_LINES_MAX:
                        break
            return found

        self.read_long(
            "comparing",
            compare,
            lambda lines: self.hold.show(
                plans.diff_dialog(before, after, lines, self.look, lines_max=_DIFF_LINES_MAX)
            ),
        )

    def _pair(self) -> tuple[SnapshotId, SnapshotId] | None:
        """The two marked ones, or the one under the cursor with the one before it; older first."""
        marked = self.marked_rows()
        if len(marked) > 2 or len(marked) == 1:  # noqa: PLR2004  # two can be compared
            self.say("mark two snapshots to compare them, or none for the one before", "warn")
            return None
        if marked:
            one, other = sorted((row.snapshot for row in marked), key=lambda each: each.time_s)
            return one, other
        row = self.current_row()
        if row is None:
            self.say("there is no snapshot here")
            return None
        older = [
            each.snapshot
            for each in self.group_rows()
            if each.snapshot.group == row.snapshot.group and each.time_s < row.time_s
        ]
        if not older:
            self.say("there is no older snapshot of this group")
            return None
        return max(older, key=lambda each: each.time_s), row.snapshot


def _size_of(rows: Sequence[SnapshotRow]) -> int:
    return sum(row.summary.size for row in rows)


def _at_home(spec: str) -> str:
    """`~` is what a shell makes of it, also behind `name.pxar:`."""
    name, colon, path = spec.partition(":")
    return f"{name}:{os.path.expanduser(path)}" if colon else os.path.expanduser(spec)
