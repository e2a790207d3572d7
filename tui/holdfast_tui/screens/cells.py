"""Cells that several views show the same way: marks with words, bars, progress."""

from holdfast_tui.model.tasks import Task
from holdfast_tui.render import fmt
from holdfast_tui.render.look import STYLE_OF_MARK, Look, Mark

FULL_PART = 0.95
NEARLY_FULL_PART = 0.80


def marked(look: Look, mark: Mark, word: str) -> tuple[str, str]:
    """`X failed` in the colour of its mark."""
    return f"{look.mark(mark)} {word}", STYLE_OF_MARK[mark]


def usage_bar(look: Look, part: float | None, width: int) -> list[tuple[str, str]]:
    """Green, yellow from 80 %, red from 95 %; always next to its number."""
    full, empty = look.bar(part, width)
    style = "bar"
    if part is not None and part >= NEARLY_FULL_PART:
        style = "bar-bad" if part >= FULL_PART else "bar-warn"
    return _bar(look, full, empty, style)


def good_bar(look: Look, part: float, width: int) -> list[tuple[str, str]]:
    """The more the better: always green, always next to its number."""
    return _bar(look, *look.bar(part, width), "bar")


def progress_bar(look: Look, task: Task, width: int) -> list[tuple[str, str]]:
    """How far a task is; a text instead when nobody knows."""
    progress = task.progress
    if progress is None or (progress.fraction is None and not progress.waiting_for):
        return [(task.word, "run")]
    if progress.waiting_for:
        return [(progress.waiting_for, "dim")]
    full, empty = look.bar(progress.fraction, width)
    return _bar(look, full, empty, "bar-run")


def _bar(look: Look, full: str, empty: str, style: str) -> list[tuple[str, str]]:
    if not look.unicode:
        return [(full, style), (empty, "dim")]
    if empty and full and full[-1] != "\u2588":  # an eighth: its other part has the empty ground
        return [(full[:-1], style), (full[-1], f"{style}-edge"), (empty, "empty")]
    return [(full, style), (empty, "empty")]


def percent(task: Task) -> str:
    return fmt.percent(None if task.progress is None else task.progress.fraction)


def speed(task: Task) -> str:
    """`118 MiB/s`; empty while paused or waiting."""
    progress = task.progress
    if progress is None or task.word != "running":
        return ""
    return fmt.rate(progress.rate, progress.unit)


def amount(task: Task) -> str:
    """`415 of 1,011`, `3.1 of 5.0 GiB`: done, and of how much."""
    progress = task.progress
    if progress is None or not (progress.done or progress.total):
        return ""
    show = fmt.size if progress.unit == "bytes" else fmt.count
    of = f" of {show(progress.total)}" if progress.total else ""
    return f"{show(progress.done)}{of}"


def left(task: Task) -> str:
    """`eta 12:40`; empty when nobody knows."""
    progress = task.progress
    eta = "" if progress is None or task.word != "running" else fmt.eta(progress.eta_s)
    return f"eta {eta}" if eta else ""
