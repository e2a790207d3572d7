"""Read snapshots again and check everything in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.datastore import verify as engine
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.store import Datastore
from holdfast.datastore.verify import VerifyOptions, VerifyOutcome
from holdfast.ids import Namespace, SnapshotId
from holdfast.operations.progress import Progress
from holdfast.operations.scope import snapshots_in


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What to check.

    Attributes:
        what: snapshots and groups in `ns`; empty for all of `ns` and below.
        upid: the task that results are signed with.
        key: to check encrypted chunks in full with.
    """

    store: Datastore
    ns: Namespace
    upid: str
    what: Sequence[str] = ()
    options: VerifyOptions = field(default_factory=VerifyOptions)
    key: EncryptionKey | None = None


def verify(request: VerifyRequest, progress: Progress) -> VerifyOutcome:
    """Check, set damaged chunks aside, mark the snapshots (see datastore.verify).

    Raises:
        NotFound: nothing of that name.
        HoldfastError: the machine failed, not the data.
    """
    chosen: dict[SnapshotId, None] = {}  # each once, in the order given
    for name in request.what or (None,):
        chosen.update(dict.fromkeys(snapshots_in(request.store, request.ns, name)))
    return engine.verify(
        request.store,
        list(chosen),
        upid=request.upid,
        options=request.options,
        key=request.key,
        observer=progress,
    )
