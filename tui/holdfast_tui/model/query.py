"""The filter grammar of every list: `failed -gc kind:verify since:2d "two words"`.

Plain words are looked for in the whole row; `name:word` in one fact; a leading `-` leaves out what
matches; `since:2d` and `before:2d` compare ages. Everything is case-blind.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from holdfast.units import DAY, HOUR, MINUTE

_SPAN: Final = re.compile(r"(\d+)\s*(s|min|m|h|d|w|y)?")
_UNITS: Final = {
    "s": 1,
    "m": MINUTE,
    "min": MINUTE,
    "h": HOUR,
    "d": DAY,
    "w": 7 * DAY,
    "y": 365 * DAY,
}


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a filter; `name` is empty for plain words."""

    name: str
    text: str
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed filter; an empty one matches everything."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Query":
        """Never fails: while somebody types, halves of words and quotes are normal."""
        try:
            words = shlex.split(text)
        except ValueError:
            words = text.split()
        terms = []
        for word in words:
            negated = word.startswith("-") and len(word) > 1
            body = word[1:] if negated else word
            name, colon, value = body.partition(":")
            if colon and name.isalpha() and value:
                terms.append(Term(name.lower(), value.lower(), negated))
            elif not (colon and not value and name.isalpha()):
                terms.append(Term("", body.lower(), negated))
        return cls(tuple(terms))

    def matches(self, facts: Mapping[str, str], *, age_s: float | None = None) -> bool:
        """Whether a row with these facts (name to text) and this age stays."""
        return all(_holds(term, facts, age_s) != term.is_negated for term in self.terms)

    def predicate(self) -> Callable[[Mapping[str, str]], bool]:
        return self.matches


def _holds(term: Term, facts: Mapping[str, str], age_s: float | None) -> bool:
    if term.name in ("since", "before"):
        limit = seconds_of(term.text)
        if limit is None or age_s is None:
            return True
        return age_s <= limit if term.name == "since" else age_s > limit
    if term.name and term.name in facts:
        return term.text in facts[term.name].lower()
    wanted = f"{term.name}:{term.text}" if term.name else term.text
    return any(wanted in text.lower() for text in facts.values())


def seconds_of(text: str) -> int | None:
    """`2d`, `90m`, `3 w` in seconds; a bare number is days; None for anything else."""
    match = _SPAN.fullmatch(text.strip())
    return None if match is None else int(match[1][:9]) * _UNITS[match[2] or "d"]
