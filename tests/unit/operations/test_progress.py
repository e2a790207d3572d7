"""holdfast.operations.progress."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.operations.progress import NullProgress, Progress, RateEstimate


def test_nobody_listening_is_a_progress_too() -> None:
    progress: Progress = NullProgress()
    progress.phase("read")
    progress.total(items=1, bytes=2)
    progress.advance(items=1)
    progress.item("x")
    progress.warn("y")


def test_a_steady_rate_is_found_exactly() -> None:
    estimate = RateEstimate()
    for second in range(10):
        estimate.sample(float(second), second * 50)

    assert estimate.per_second == pytest.approx(50)
    assert estimate.left_s(950) == pytest.approx(10)


def test_a_burst_at_the_start_is_forgotten() -> None:
    estimate = RateEstimate(fade_s=5)
    estimate.sample(0, 0)
    estimate.sample(1, 10_000)
    for second in range(2, 60):
        estimate.sample(second, 10_000 + second * 10)

    assert estimate.per_second is not None
    assert abs(estimate.per_second - 10) < 5


def test_a_count_that_falls_starts_the_measurement_again() -> None:
    estimate = RateEstimate()
    estimate.sample(0, 0)
    estimate.sample(10, 1000)
    estimate.sample(11, 0)

    assert estimate.per_second is None
    assert estimate.left_s(100) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1 << 50)), max_size=20))
def test_never_promises_a_negative_time(samples: list[tuple[float, int]]) -> None:
    estimate = RateEstimate()
    now_s = 0.0
    for span_s, done in samples:
        now_s += span_s
        estimate.sample(now_s, done)

    left_s = estimate.left_s(1 << 49)
    assert left_s is None or left_s >= 0
