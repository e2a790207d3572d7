"""For views that read what may take a while: how far it is, and esc gives it up."""

from collections.abc import Callable
from typing import TypeVar

from textual.timer import Timer

from holdfast_tui.insights import GivenUp, Steps
from holdfast_tui.screens.view import View

Result = TypeVar("Result")
_SAY_EVERY_S = 0.5


class LongReads(View):
    """A view with at most one long read at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: Steps | None = None
        self._steps_timer: Timer | None = None
        self._has_said = False

    @property
    def is_reading(self) -> bool:
        return self._steps is not None

    def read_long(
        self,
        what: str,
        work: Callable[[Steps], Result],
        then: Callable[[Result], object],
        *,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Run `work` in a thread; the message row says how far it is until `then` is called.

        A read that is under way is given up first.
        """
        if self._steps is not None:
            self._steps.is_given_up = True
        steps = self._steps = Steps()
        if self._steps_timer is None:
            self._steps_timer = self.set_interval(_SAY_EVERY_S, lambda: self._say_step(what))

        def done(result: Result) -> None:
            self._end_of(steps)
            if not steps.is_given_up:
                then(result)

        def not_done(error: Exception) -> None:
            self._end_of(steps)
            if isinstance(error, GivenUp) or steps.is_given_up:
                return
            if failed is not None:
                failed(error)
            else:
                self.hold.say_error(error)

        self.read(lambda: work(steps), done, failed=not_done, group="long")

    def _say_step(self, what: str) -> None:
        if self._steps is not None:
            self._has_said = True
            self.say(f"{what}: {self._steps.text} - esc gives up")

    def _end_of(self, steps: Steps) -> None:
        if self._steps is steps:
            self._steps = None
            if self._steps_timer is not None:
                self._steps_timer.stop()
                self._steps_timer = None
            if self._has_said:
                self._has_said = False
                self.say("")

    def leave_state(self) -> bool:
        if self._steps is not None:
            self._steps.is_given_up = True
            self._end_of(self._steps)
            self.say("given up")
            return True
        return super().leave_state()
