"""Stores for tests: the recorded sample, and real empty ones in memory where there is room."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.datastore.store import Datastore
from tests.harness import vectors
from tests.harness.places import quick_directory

SAMPLE = vectors.load("datastore", "sample_store")


def materialise_sample(base: Path) -> Path:
    """Write the recorded store to `base`, with only those chunk directories that hold something."""
    base.mkdir(mode=0o755, exist_ok=True)
    for name, content in SAMPLE["files"].items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "hex" in content:
            data = bytes.fromhex(content["hex"])
        else:
            head = bytes.fromhex(content["head_hex"])
            data = head.ljust(content["zero_fill_to"], b"\0") + bytes.fromhex(content["tail_hex"])
        path.write_bytes(data)
        path.chmod(0o644)
    for path in (base / ".chunks", *(base / ".chunks").iterdir()):
        path.chmod(0o750)
    return base


@contextmanager
def empty_store() -> Iterator[Datastore]:
    """A complete new store, open for writing."""
    with quick_directory() as place:
        yield Datastore.create(f"{place}/store")
