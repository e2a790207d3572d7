"""Which of many texts is meant by a few letters; pure."""

import heapq
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
_BOUNDARIES = " /._-:"


def score(wanted: str, text: str) -> float | None:
    """How well lower-case `wanted` fits `text`, higher is better; None when it does not.

    All letters have to appear in order. Whole words, beginnings of words and unbroken runs count
    for more; of equal ones the shorter text wins.
    """
    low = text.lower()
    if not wanted:
        return 0.0
    at = low.find(wanted)
    if at >= 0:
        starts = at == 0 or low[at - 1] in _BOUNDARIES
        return 1000 + (200 if starts else 0) - at - len(low) / 100
    total = 0.0
    place = -1
    run = 0
    for letter in wanted:
        found = low.find(letter, place + 1)
        if found < 0:
            return None
        run = run + 1 if found == place + 1 else 0
        starts = found == 0 or low[found - 1] in _BOUNDARIES
        total += 10 + 8 * run + (12 if starts else 0) - min(found - place - 1, 8)
        place = found
    return total - len(low) / 100


def best(
    typed: str, items: Sequence[Item], *, key: Callable[[Item], str], limit: int = 500
) -> list[Item]:
    """The items that fit what was typed, best first; all of them, as they are, for nothing."""
    words = typed.lower().split()
    if not words:
        return list(items)
    scored = []
    for at, item in enumerate(items):
        text = key(item)
        marks = [score(word, text) for word in words]
        good = [mark for mark in marks if mark is not None]
        if len(good) == len(marks):
            scored.append((sum(good), -at, item))
    top = heapq.nlargest(limit, scored, key=lambda entry: entry[:2])
    return [entry[2] for entry in top]
