"""What `doctor` has to say: one finding per thing looked at."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is; in order."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"
    DAMAGE = "damage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: "program", "clock", "configuration", "state", "store NAME", or "WAL stage of NAME".
        message: what was found, one sentence.
        advice: what to do about it; empty when it is good.
    """

    level: Level
    area: str
    message: str
    advice: str = ""
