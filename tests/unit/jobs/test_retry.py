"""Retries ask the error, wait longer each time, and give the last error back."""

import pytest
from tests.harness.driven_clock import DrivenClock

from holdfast.errors import BadRequest, Busy, HoldfastError, KeyProblem, TemporaryFailure
from holdfast.jobs.retry import RetryPolicy, run_with_retries


class Flaky:
    """Fails with the given errors in turn, then succeeds."""

    def __init__(self, *errors: HoldfastError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def ignore(_error: HoldfastError, _pause_s: float) -> None:
    pass


def test_transient_errors_are_retried_with_growing_pauses() -> None:
    clock = DrivenClock()
    told: list[tuple[str, float]] = []
    action = Flaky(Busy("a"), TemporaryFailure("b"), Busy("c"))

    result = run_with_retries(
        action,
        RetryPolicy(first_pause_s=10, factor=3, pause_s_max=60),
        on_failure=lambda error, pause: told.append((error.message, pause)),
        clock=clock,
    )

    assert result == "done"
    assert told == [("a", 10), ("b", 30), ("c", 60)]
    assert clock.waits == [10, 30, 60]


def test_an_error_that_cannot_heal_is_not_retried() -> None:
    action = Flaky(KeyProblem("wrong passphrase"))

    with pytest.raises(KeyProblem):
        run_with_retries(action, RetryPolicy(), on_failure=ignore, clock=DrivenClock())
    assert action.calls == 1


def test_after_the_last_retry_the_last_error_remains() -> None:
    action = Flaky(Busy("1"), Busy("2"), Busy("3"))

    with pytest.raises(Busy, match="3"):
        run_with_retries(action, RetryPolicy(retries_max=2), on_failure=ignore, clock=DrivenClock())


def test_endless_retries_keep_their_largest_pause() -> None:
    policy = RetryPolicy(retries_max=None, first_pause_s=1, factor=2, pause_s_max=100)
    clock = DrivenClock()

    run_with_retries(
        Flaky(*(Busy(str(n)) for n in range(2000))), policy, on_failure=ignore, clock=clock
    )

    assert clock.waits[:3] == [1, 2, 4]
    assert set(clock.waits[7:]) == {100}


def test_impossible_policies_are_refused() -> None:
    with pytest.raises(BadRequest):
        RetryPolicy(factor=0.5)
    with pytest.raises(BadRequest):
        RetryPolicy(retries_max=-1)
