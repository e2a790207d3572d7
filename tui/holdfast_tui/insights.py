"""What takes longer to find out about a store, remembered while the app runs.

Who uses the space (also from the last `holdfast usage`), and which damage reaches how far. Methods
are for threads; the dictionaries may be read anywhere.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdfast.errors import HoldfastError
from holdfast.ids import SnapshotId
from holdfast.operations.progress import NullProgress
from holdfast.units import GIB
from holdfast_tui.model.snapshots import Catalogue
from holdfast_tui.reader import Reader

if TYPE_CHECKING:
    from holdfast.datastore.damage import LostChunk
    from holdfast.operations.usage import Measured

SMALL_SNAPSHOTS: Final = 200
SMALL_BYTES: Final = 64 * GIB


class GivenUp(HoldfastError):
    """The person did not want to wait for it."""


class Steps(NullProgress):
    """How far a long read is; the reading thread writes, the view looks.

    Attributes:
        is_given_up: set it, and the read ends at its next step.
    """

    def __init__(self) -> None:
        self.done = 0
        self.all = 0
        self.is_given_up = False
        self.warnings: list[str] = []

    def phase(self, name: str) -> None:
        del name
        self.done = self.all = 0

    def total(self, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        del bytes
        self.all = items or 0

    def advance(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        del bytes
        self.done += items
        if self.is_given_up:
            raise GivenUp("given up")

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @property
    def text(self) -> str:
        return f"reading {self.done:,} of {self.all:,}" if self.all else "reading"


@dataclass(frozen=True, slots=True)
class Damage:
    """Chunks that the failed snapshots of a store miss, and who else wants them.

    Attributes:
        of: the failed snapshots and their verifications that this was found for.
        reached: snapshots that use one of the chunks.
    """

    of: frozenset[tuple[SnapshotId, str]]
    chunks: tuple["LostChunk", ...]
    reached: dict[SnapshotId, int]
    at_s: float


class Insights:
    """Of all stores of this run, by name."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.usage: dict[str, Measured] = {}
        self.damage: dict[str, Damage] = {}

    def load_usage(self, store: str) -> "Measured | None":
        """What is known, or what the last `holdfast usage` remembered if that is newer."""
        from holdfast.operations.usage import remembered

        found = remembered(self._reader.options.state_dir, self._reader.open(store))
        known = self.usage.get(store)
        if found is not None and (known is None or known.at_s < found.at_s):
            self.usage[store] = found
        return self.usage.get(store)

    def usage_of(self, store: str, snapshots: AbstractSet[SnapshotId] = frozenset()) -> "Measured":
        """What is known or remembered if it tells of these snapshots; else measured now."""
        known = self.load_usage(store)
        if known is not None and known.usage.snapshots.keys() >= snapshots:
            return known
        return self.measure_usage(store, Steps())

    def measure_usage(self, store: str, steps: Steps) -> "Measured":
        """Read all indexes of the store now (HoldfastError)."""
        from holdfast.operations.usage import Measured, UsageRequest, measure

        clock = self._reader.clock
        began_s = clock.now_s()
        usage = measure(UsageRequest(store=self._reader.open(store), now_s=began_s), steps)
        measured = Measured(began_s, clock.now_s() - began_s, usage)
        self.usage[store] = measured
        return measured

    def find_damage(
        self, store: str, failed: Sequence[tuple[SnapshotId, str]], steps: Steps
    ) -> Damage:
        """Trace what the failed snapshots miss (HoldfastError); known damage is not traced again."""
        from holdfast.datastore.damage import lost_chunks

        of = frozenset(failed)
        known = self.damage.get(store)
        if known is not None and known.of == of:
            return known
        chunks = lost_chunks(
            self._reader.open(store), [snapshot for snapshot, _upid in failed], observer=steps
        )
        reached: dict[SnapshotId, int] = {}
        for chunk in chunks:
            for snapshot in chunk.snapshots:
                reached[snapshot] = reached.get(snapshot, 0) + 1
        self.damage[store] = Damage(of, tuple(chunks), reached, self._reader.clock.now_s())
        return self.damage[store]


def is_small(catalogue: Catalogue) -> bool:
    """Whether reading all indexes takes so little that nobody has to ask for it."""
    return (
        catalogue.count <= SMALL_SNAPSHOTS
        and sum(row.summary.size for row in catalogue.rows) <= SMALL_BYTES
    )


def failed_of(catalogue: Catalogue) -> list[tuple[SnapshotId, str]]:
    """Snapshots whose last verification failed, with its task."""
    from holdfast.datastore.manifest import VerifyResult

    return [
        (row.snapshot, str(row.summary.verify_state.upid))
        for row in catalogue.rows
        if row.summary.verify_state is not None
        and row.summary.verify_state.state is VerifyResult.FAILED
    ]
