"""What is known of a cluster's backups, as list, check and retention see it."""

from dataclasses import dataclass, field
from enum import StrEnum

from holdfast.ids import SnapshotId, epoch_to_name
from holdfast.postgres.recoverability import Base, Reach, WalSet, Window
from holdfast.postgres.wal_catalogue import WalCatalogue


class Severity(StrEnum):
    """How bad a finding is."""

    DAMAGED = "damaged"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One sentence, and what it means for a recovery."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSeen:
    """A base backup in the store.

    Attributes:
        snapshot: which one.
        kind: full, differential or native.
        parent: what it builds on, None for a full one.
        chain: from the full one to the parent.
        system_identifier: of the cluster, as text.
        position: where it lies in the WAL; None when the manifest does not tell.
        generation: the history its WAL belongs to, 0 when none is archived.
        proof: when it was last restored for trial, and how that ended; None when never.
    """

    snapshot: SnapshotId
    kind: str
    parent: str | None
    chain: tuple[str, ...]
    system_identifier: str
    position: Base
    generation: int
    proof: tuple[str, str] | None = None


@dataclass(slots=True)
class History:
    """One generation: its WAL, the bases in it, and how far they get."""

    generation: int
    wal: WalSet
    bases: list[BaseSeen] = field(default_factory=list)
    reaches: list[Reach] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)


@dataclass(slots=True)
class ClusterStatus:
    """Everything list, check and retention ask about a cluster.

    Attributes:
        cluster: its name.
        bases: oldest first.
        histories: oldest first; the last one is the present.
        catalogue: the WAL files the store has.
        problems: worst first.
    """

    cluster: str
    segment_bytes: int
    bases: list[BaseSeen]
    histories: list[History]
    catalogue: WalCatalogue
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_damaged(self) -> bool:
        return any(one.severity is Severity.DAMAGED for one in self.problems)


def describe(found: list[Window]) -> str:
    """Windows of one timeline in words: "recoverable until A, then from B until C"."""
    if not found:
        return "nothing can be recovered"
    first, *later = found
    text = f"recoverable from {epoch_to_name(first.from_s)} until {epoch_to_name(first.until_s)}"
    for window in later:
        text += f", then from {epoch_to_name(window.from_s)} until {epoch_to_name(window.until_s)}"
    return text
