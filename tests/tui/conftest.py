"""One bench for all tests that only look; tests that change something copy it."""

from collections.abc import Iterator

import pytest
from tests.harness.tui import Bench, bench_directory, copied, make_bench


@pytest.fixture(scope="session")
def looked_at() -> Iterator[Bench]:
    """A store with three snapshots of files, one of an image, one damaged chunk; do not change it."""
    with bench_directory() as place:
        yield make_bench(place / "home", damage=True)


@pytest.fixture
def bench(looked_at: Bench) -> Iterator[Bench]:
    """The same, free to be changed."""
    with bench_directory() as place:
        yield copied(looked_at, place / "home")
