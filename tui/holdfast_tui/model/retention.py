"""Retention rules as a person types them: `last 3 daily 7`; pure."""

import re
from typing import Final

from holdfast.config.stores import KEEP_NAMES, Keep
from holdfast.datastore.retention import RetentionPolicy
from holdfast.errors import BadRequest

_PAIR: Final = re.compile(r"(?:--keep-)?([a-z]+)[\s=]+(\d{1,9})")


def rules_text(keep: Keep) -> str:
    """`last 3 daily 7`, as the configuration has it; empty for none."""
    pairs = ((name, getattr(keep, name)) for name in KEEP_NAMES)
    return " ".join(f"{name} {count}" for name, count in pairs if count is not None)


def parse_rules(text: str) -> dict[str, int]:
    """Counts by name, in the order of the names.

    Raises:
        BadRequest: nothing, or something else than rules.
    """
    words = text.replace(",", " ").strip().lower()
    found = {name: int(count) for name, count in _PAIR.findall(words)}
    rest = _PAIR.sub("", words).strip()
    unknown = [name for name in found if name not in KEEP_NAMES]
    if rest or unknown or not found:
        raise BadRequest(
            f"{rest or ' '.join(unknown) or 'nothing'} is no retention rule",
            hint=f"for example: last 3 daily 7; names are {', '.join(KEEP_NAMES)}",
        )
    if not any(found.values()):
        raise BadRequest("these rules keep nothing", hint="at least one has to be above 0")
    return {name: found[name] for name in KEEP_NAMES if name in found}


def policy_of(rules: dict[str, int]) -> RetentionPolicy:
    return RetentionPolicy(**{f"keep_{name}": count for name, count in rules.items()})


def option_words(rules: dict[str, int]) -> tuple[str, ...]:
    """`--keep-last 3 --keep-daily 7`."""
    return tuple(word for name, count in rules.items() for word in (f"--keep-{name}", str(count)))
