"""When to try again: exponential backoff, and the error's own word on whether it can help."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from holdfast.errors import BadRequest, HoldfastError
from holdfast.host.clock import SYSTEM_CLOCK, Clock
from holdfast.units import MINUTE

ENDLESS: Final = None
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a failed run is repeated."""

    retries_max: int | None = 3  # ENDLESS for as long as it takes
    first_pause_s: float = 30
    factor: float = 2
    pause_s_max: float = 30 * MINUTE

    def __post_init__(self) -> None:
        if self.retries_max is not None and self.retries_max < 0:
            raise BadRequest("retries cannot be fewer than none")
        if self.first_pause_s < 0 or self.factor < 1 or self.pause_s_max < self.first_pause_s:
            raise BadRequest("a pause between retries may only grow, up to its largest value")

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after the n-th failure in a row, n from 1."""
        growth_max = 1024.0  # keeps the power finite; the limit below is reached long before
        power = min(self.factor ** min(failures - 1, 64), growth_max * growth_max)
        return min(self.first_pause_s * power, self.pause_s_max)

    def allows(self, failures: int) -> bool:
        """Whether another try may follow the n-th failure in a row."""
        return self.retries_max is None or failures <= self.retries_max


NO_RETRY: Final = RetryPolicy(retries_max=0)


def run_with_retries(
    action: Callable[[], T],
    policy: RetryPolicy,
    *,
    on_failure: Callable[[HoldfastError, float], None],
    clock: Clock = SYSTEM_CLOCK,
) -> T:
    """The result of `action`, tried again as long as its error is transient and `policy` allows.

    Args:
        action: costs on repetition only what is missing.
        policy: how often and how patiently.
        on_failure: told each error that is followed by another try, and the pause in seconds.
        clock: what to wait on.

    Raises:
        HoldfastError: the last one, when it cannot help to go on or the tries are used up.
    """
    failures = 0
    while True:
        try:
            return action()
        except HoldfastError as error:
            failures += 1
            if not error.is_transient or not policy.allows(failures):
                raise
            pause = policy.pause_s(failures)
            on_failure(error, pause)
        clock.wait(pause)
