"""The plan of a restore: everything a dry run found, before anything is changed."""

import os
import textwrap
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from holdfast.archive.restore_rules import Overwrite
from holdfast.shown import printable
from holdfast_tui.dialogs.text import ScrolledDialog
from holdfast_tui.model.restore_plan import POLICY_WORDS, is_system_path, summary
from holdfast_tui.render import fmt
from holdfast_tui.render.clean import clean
from holdfast_tui.render.look import Look, Mark
from holdfast_tui.widgets.strips import Line

if TYPE_CHECKING:
    from holdfast_tui.screens.restore.planning import Plan

_LISTED_MAX = 500
_TWIN_CELLS = 64


class PlanDialog(ScrolledDialog[str]):
    """Answers `start`, or `rule` for the next rule about conflicts; None when given up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "answer('start')", show=False),
        Binding("c", "answer('rule')", show=False),
    ]

    def __init__(self, plan: "Plan", twin: str, look: Look) -> None:
        hint = "enter starts - c other rule - y copies - esc back"
        if plan.image_bytes is not None:
            hint = "enter goes on - y copies - esc back"
        super().__init__(f"Plan: restore {plan.selection.snapshot}", hint, copied=twin)
        self._plan = plan
        self._twin = twin
        self._look = look
        self._lines = self._all_lines()

    # What it says ---------------------------------------------------------------------------------

    def _all_lines(self) -> list[Line]:
        plan = self._plan
        host = plan.host
        state = " (new)"
        if host.exists or plan.target_exists:
            state = " (exists)"
        lines: list[Line] = [
            [("from   ", "dim"), (f"{plan.selection.archive}", "text"), (self._what(), "dim")],
            [("to     ", "dim"), (clean(plan.selection.target), "strong"), (state, "dim")],
            [],
        ]
        lines += self._image_counts() if plan.image_bytes is not None else self._counts()
        lines += [[], *self._checks(), []]
        lines += self._lists()
        return lines + self._twin_lines()

    def _twin_lines(self) -> list[Line]:
        """The command, as many lines as it needs."""
        text = clean(self._twin)
        pieces = textwrap.wrap(text, _TWIN_CELLS, break_long_words=True, break_on_hyphens=False)
        return [
            [("$ " if at == 0 else "  ", "key"), (piece, "dim")] for at, piece in enumerate(pieces)
        ]

    def _what(self) -> str:
        decisions = self._plan.selection.decisions
        return f", {summary(decisions)}" if decisions else ", all of it"

    def _counts(self) -> list[Line]:
        outcome = self._plan.outcome
        rule = self._plan.rule
        made = outcome.files + outcome.others - outcome.replaced
        beside = len(outcome.conflicts) if rule is Overwrite.KEEP_BOTH else 0
        lines = [
            self._count("n", made - beside, "new", fmt.size(outcome.content_bytes), "new"),
            self._count("=", outcome.identical, "the same already", "left as they are", "same"),
        ]
        if outcome.replaced:
            word, about = "replaced", POLICY_WORDS[rule]
            if not self._plan.replaced:
                word, about = "begun before", "completed now"
            lines.append(self._count("c", outcome.replaced, word, about, "changed"))
        if outcome.conflicts:
            about = "restored beside, as NAME.restored" if beside else "left as they are (c)"
            lines.append(self._count("c", len(outcome.conflicts), "that differ", about, "changed"))
        if outcome.skipped:
            lines.append(
                self._count("/", len(outcome.skipped), "skipped", "by the rule, or refused", "stop")
            )
        if self._plan.damaged:
            count = len(self._plan.damaged)
            lines.append(self._count("X", count, "damaged", "their content is lost", "bad"))
        return lines

    @staticmethod
    def _count(mark: str, number: int, word: str, about: str, style: str) -> Line:
        shown = style if number else "dim"
        return [
            (f" {mark} ", shown),
            (f"{number:>9,} ", "strong" if number else "dim"),
            (f"{word:17}", shown),
            (about if number else "", "dim"),
        ]

    def _image_counts(self) -> list[Line]:
        plan = self._plan
        size = fmt.size(plan.image_bytes)
        if plan.is_device:
            return [[(" ! ", "warn"), (f"{size} are written onto the device", "warn")]]
        if plan.target_exists:
            return [[(" c ", "changed"), (f"{size}: blocks that differ are written", "changed")]]
        return [[(" n ", "new"), (f"{size} into a new file", "new")]]

    def _checks(self) -> list[Line]:
        plan, host = self._plan, self._plan.host
        need = plan.outcome.content_bytes if plan.image_bytes is None else plan.image_bytes
        lines: list[Line] = []
        if host.free is not None and not plan.is_device:
            fits = host.free > need
            word = f"needs {fmt.size(need)}, {fmt.size(host.free)} are free"
            lines.append(self._check(Mark.OK if fits else Mark.BAD, "space", word))
        if not host.is_writable:
            lines.append(
                self._check(Mark.BAD, "access", f"you may not write to {clean(host.above)}")
            )
        else:
            lines.append(self._check(Mark.OK, "access", f"{clean(host.above)} can be written"))
        from holdfast.archive.restore_without import Without

        if os.geteuid() and Without.OWNER not in plan.selection.without and plan.outcome.files:
            word = "only root can give files their owners; they will be yours"
            lines.append(self._check(Mark.WARN, "owners", word))
        if is_system_path(plan.selection.target):
            word = f"{clean(plan.selection.target)} belongs to the running system"
            lines.append(self._check(Mark.WARN, "place", word))
        if plan.damaged:
            word = "damaged files are left out; t finds the last good version"
            lines.append(self._check(Mark.WARN, "damage", word))
        return lines

    def _check(self, mark: Mark, name: str, word: str) -> Line:
        from holdfast_tui.render.look import STYLE_OF_MARK

        style = STYLE_OF_MARK[mark]
        return [(f" {self._look.mark(mark)} ", style), (f"{name:8}", "dim"), (word, "text")]

    def _lists(self) -> list[Line]:
        outcome = self._plan.outcome
        lines: list[Line] = []
        for mark, style, title, paths in (
            ("X", "bad", "damaged", [printable(path) for path in self._plan.damaged]),
            ("c", "changed", "differ", outcome.conflicts),
            ("/", "stop", "skipped", outcome.skipped),
            ("!", "warn", "warnings", outcome.warnings),
        ):
            if not paths:
                continue
            lines.append([(f" {title}", "title")])
            lines += [
                [(f"   {mark} ", style), (clean(path), "text")] for path in paths[:_LISTED_MAX]
            ]
            if len(paths) > _LISTED_MAX:
                lines.append([(f"   (+{len(paths) - _LISTED_MAX:,} more)", "dim")])
        return [*lines, []] if lines else []

    # Keys -----------------------------------------------------------------------------------------

    def action_answer(self, answer: str) -> None:
        plan = self._plan
        if answer == "rule" and (plan.image_bytes is not None or plan.rule is Overwrite.FRESH):
            self.hint("nothing is in the way there")
        else:
            self.dismiss(answer)
