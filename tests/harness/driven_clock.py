"""A clock that only moves when somebody waits on it, or when the test moves it."""


class DrivenClock:
    """Fulfils holdfast.host.clock.Clock."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self.time_s = now_s
        self.waits: list[float] = []

    def now_s(self) -> float:
        return self.time_s

    def monotonic_s(self) -> float:
        return self.time_s

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time_s += seconds

    def move(self, seconds: float) -> None:
        self.time_s += seconds
