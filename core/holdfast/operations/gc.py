"""Collect garbage, or say what that would free."""

from dataclasses import dataclass
from enum import Enum

from holdfast.datastore.access_times import CUTOFF_DEFAULT_S
from holdfast.datastore.gc import GcOutcome, collect_garbage, preview_garbage
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest
from holdfast.operations.progress import Progress


class GcMode(Enum):
    """Whether anything is done."""

    PREVIEW = "preview"
    COLLECT = "collect"


@dataclass(frozen=True, slots=True, kw_only=True)
class GcRequest:
    """Which store, as which task, and how old a chunk has to be.

    Attributes:
        upid: the task's name, kept in `.gc-status`.
        cutoff_s: unused chunks that were touched in the last so many seconds stay.
    """

    store: Datastore
    upid: str
    mode: GcMode = GcMode.PREVIEW
    cutoff_s: int = CUTOFF_DEFAULT_S

    def __post_init__(self) -> None:
        if self.cutoff_s < 0:
            raise BadRequest("the cutoff is a span before now, it cannot be negative")


def gc(request: GcRequest, progress: Progress) -> GcOutcome:
    """Do it, or look what it would do; both count the same way.

    Raises:
        Busy: another collection runs, or Proxmox writes to the store.
        DamagedData: an index cannot be trusted; nothing was removed.
        ReadOnlyViolation, Refused, HoldfastError: see datastore.gc.
    """
    if request.mode is GcMode.PREVIEW:
        return preview_garbage(request.store, cutoff_s=request.cutoff_s, observer=progress)
    return collect_garbage(
        request.store, upid=request.upid, cutoff_s=request.cutoff_s, observer=progress
    )
