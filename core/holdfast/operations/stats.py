"""Figures about a store, a group or a snapshot."""

from dataclasses import dataclass

from holdfast.datastore.stats import StoreStats, measure
from holdfast.datastore.store import Datastore
from holdfast.ids import Namespace
from holdfast.operations.progress import Progress
from holdfast.operations.scope import snapshots_in


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRequest:
    """What to measure.

    Attributes:
        what: a snapshot or a group in `ns`; None for all of `ns` and below.
    """

    store: Datastore
    ns: Namespace
    what: str | None = None


def stats(request: StatsRequest, progress: Progress) -> StoreStats:
    """Measure (NotFound, DamagedData, HoldfastError)."""
    progress.phase("stats")
    selection = snapshots_in(request.store, request.ns, request.what)
    return measure(request.store, selection, observer=progress)
