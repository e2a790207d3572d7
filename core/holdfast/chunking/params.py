"""How large chunks are: one choice, the mean, from which the other limits follow."""

from dataclasses import dataclass
from typing import Final, Self

from holdfast.errors import BadRequest
from holdfast.units import KIB, MIB

MEAN_BYTES_MIN: Final = 64 * KIB
MEAN_BYTES_MAX: Final = 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkingParams:
    """How streams are cut. A change ends deduplication against older snapshots."""

    chunk_bytes_min: int = 1 * MIB
    chunk_bytes_mean: int = 4 * MIB
    chunk_bytes_max: int = 16 * MIB

    def __post_init__(self) -> None:
        if not 0 < self.chunk_bytes_min <= self.chunk_bytes_mean <= self.chunk_bytes_max:
            raise BadRequest(f"chunk sizes want 0 < min <= mean <= max, not {self}")
        if self.chunk_bytes_mean.bit_count() != 1:
            raise BadRequest(f"the mean chunk size {self.chunk_bytes_mean} is no power of two")

    @classmethod
    def for_mean(cls, mean_bytes: int) -> Self:
        """A quarter of the mean at least, four times the mean at most.

        Raises:
            BadRequest: not a power of two from 64 KiB to 4 MiB.
        """
        if not MEAN_BYTES_MIN <= mean_bytes <= MEAN_BYTES_MAX or mean_bytes.bit_count() != 1:
            raise BadRequest(
                f"the mean chunk size is a power of two from 64 KiB to 4 MiB, not {mean_bytes} bytes"
            )
        return cls(
            chunk_bytes_min=mean_bytes // 4,
            chunk_bytes_mean=mean_bytes,
            chunk_bytes_max=mean_bytes * 4,
        )


DEFAULT: Final = ChunkingParams()
CATALOG: Final = ChunkingParams.for_mean(512 * KIB)
