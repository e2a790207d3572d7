"""Goal: whatever is killed or fails in whatever order, the archive gives what was accepted.

Method: seeded random steps of a made-up server against the real archive, checked after each one.
"""

from pathlib import Path

import pytest
from tests.harness.archiver_model import Model
from tests.harness.places import quick_directory
from tests.harness.stores import empty_store


def run(seed: int, steps: int) -> dict[str, int]:
    with empty_store() as store, quick_directory() as place:
        model = Model(Path(place), Path(store.base), seed)
        try:
            for number in range(steps):
                model.step()
                model.check(everything=number % 50 == 49)
            model.calm()
            model.push_next()
            model.kill_at_work()
            model.calm()  # asks for nothing: what was owed is taken up
            model.check(everything=True)
            check_idle(model)
        except BaseException:
            print(f"seed {seed}: {model.counts}")  # noqa: T201  # shown when the test fails
            raise
        finally:
            model.close()
        return model.counts


def check_idle(model: Model) -> None:
    with model.open_stage() as stage:
        assert stage.requests.flags().owed == 0
        for generation in stage.generations():
            assert generation.staged_names() == [], "everything is in the store"


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_nothing_that_was_accepted_is_ever_lost(seed: int) -> None:
    counts = run(seed, steps=90)

    for name in ("push", "worker killed", "script done", "base taken"):
        assert counts.get(name, 0) > 0, counts


@pytest.mark.slow
def test_nothing_is_lost_in_a_long_life() -> None:
    counts = run(77, steps=400)

    for name in ("push killed", "went back", "script failed", "base failed", "push again"):
        assert counts.get(name, 0) > 2, counts
