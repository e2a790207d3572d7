"""How fast all running tasks were together, over the last while; pure."""

from collections import deque
from typing import Final

from holdfast_tui.model.tasks import TaskBoard

KEPT: Final = 600


class Throughput:
    """One value per look at the journal: bytes per second over all running tasks."""

    def __init__(self) -> None:
        self.values: deque[float] = deque(maxlen=KEPT)

    def add(self, board: TaskBoard) -> None:
        rates = [
            task.progress.rate or 0.0
            for task in board.running
            if task.progress is not None
            and task.progress.unit == "bytes"
            and task.word == "running"
        ]
        if rates or (self.values and self.values[-1]):
            self.values.append(sum(rates))

    @property
    def now(self) -> float:
        return self.values[-1] if self.values else 0.0

    @property
    def peak(self) -> float:
        return max(self.values, default=0.0)
