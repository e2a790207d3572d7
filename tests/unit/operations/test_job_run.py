"""A job's run: retries, hooks in their order, and what is remembered of its end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.harness.driven_clock import DrivenClock

from holdfast.config import toml_source
from holdfast.config.settings import Settings
from holdfast.errors import Busy, DamagedData, HoldfastError, KeyProblem
from holdfast.jobs import job_state
from holdfast.jobs.request_flags import RequestFlags
from holdfast.operations.job_run import JobRun, TaskWriter
from holdfast.operations.job_steps import steps_of


class Log:
    """What a task was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings = 0

    def say(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.warnings += 1
        self.lines.append(message)


class Bench:
    """One job whose commands the test answers for."""

    def __init__(self, directory: Path, table: str) -> None:
        self.directory = str(directory)
        settings = Settings.parse(toml_source.parse("c", f"[jobs.j]\n{table}".encode()))
        self.job = settings.job("j")
        self.clock = DrivenClock()
        self.log = Log()
        self.ran: list[str] = []
        self.answer: Callable[[str], int] = lambda _name: 0

    def run(self) -> None:
        @contextmanager
        def open_task() -> Iterator[tuple[TaskWriter, str]]:
            yield self.log, "UPID:test"

        def run_command(words: Sequence[str]) -> int:
            self.ran.append(words[0])
            return self.answer(words[0])

        JobRun(
            job=self.job,
            notifiers={},
            state_directory=self.directory,
            run_command=run_command,
            open_task=open_task,
            clock=self.clock,
        ).run()

    @property
    def state(self) -> job_state.JobState:
        return job_state.read(self.directory, "j")

    @property
    def is_owed(self) -> bool:
        with RequestFlags.open_to_watch(job_state.flags_path(self.directory, "j")) as flags:
            return flags.flags().owed != 0


BACKUP = 'kind = "backup"\nsources = ["/etc"]\nid = "h"\nverify = "last"\nkeep-last = 3\n'


def test_a_backup_is_followed_by_verify_and_prune(tmp_path: Path) -> None:
    bench = Bench(tmp_path, BACKUP)

    bench.run()

    assert bench.ran == ["backup", "verify", "prune"]
    assert [step.words for step in steps_of(bench.job)][1] == ("verify", "host/h/latest")
    state = bench.state
    assert (state.state, state.failures) == ("ok", 0)
    assert state.ended_well == state.verified == int(bench.clock.now_s())


def test_what_time_may_heal_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    bench = Bench(tmp_path, BACKUP + 'retry-pause = "10s"\n')
    errors = [Busy("locked"), Busy("locked")]

    def answer(_name: str) -> int:
        if errors:
            raise errors.pop()
        return 0

    bench.answer = answer
    bench.run()

    assert bench.clock.waits == [10, 20]
    assert bench.ran == ["backup"] * 3 + ["verify", "prune"]
    assert bench.state.state == "ok"


@pytest.mark.parametrize("error", [KeyProblem("wrong key"), DamagedData("chunk", "bad CRC")])
def test_what_cannot_heal_fails_at_once_is_remembered_and_not_owed(
    tmp_path: Path, error: HoldfastError
) -> None:
    bench = Bench(tmp_path, BACKUP)
    bench.run()
    good = bench.state.ended_well
    bench.clock.move(100)

    def answer(_name: str) -> int:
        raise error

    bench.answer = answer
    for _ in range(2):
        with pytest.raises(type(error)):
            bench.run()

    state = bench.state
    assert (state.state, state.failures, state.message) == ("failed", 2, str(error))
    assert state.ended_well == good
    assert bench.clock.waits == []
    assert not bench.is_owed


def test_a_stop_leaves_the_run_owed_but_says_it_was_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, BACKUP)

    def answer(_name: str) -> int:
        raise KeyboardInterrupt

    bench.answer = answer
    with pytest.raises(KeyboardInterrupt):
        bench.run()

    assert bench.state.state == "stopped"
    assert bench.is_owed


def test_a_failed_verification_is_no_good_verification(tmp_path: Path) -> None:
    bench = Bench(tmp_path, BACKUP)
    bench.answer = {"backup": 3, "verify": 20, "prune": 0}.__getitem__

    with pytest.raises(HoldfastError, match="exit code 20"):
        bench.run()

    assert bench.ran == ["backup", "verify"]  # a damaged snapshot prunes no good one away
    assert bench.state.verified == 0


def test_the_carrying_script_is_repeated_until_it_succeeds(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    script = tmp_path / "carry"
    script.write_text(
        f'#!/bin/sh\necho "$1 $2" >> {tmp_path}/calls\n[ "$(wc -l < {tmp_path}/calls)" -ge 3 ]\n'
    )
    script.chmod(0o755)
    bench = Bench(
        tmp_path,
        f'kind = "gc"\n[jobs.j.hooks]\nbackup = "{script}"\ndirectory = "{stage}"\n',
    )
    moment = int(bench.clock.now_s())

    bench.run()

    assert (tmp_path / "calls").read_text() == f"stage {moment}\n" * 3
    assert bench.clock.waits == [5, 6.25]
    assert bench.state.state == "ok"


def test_a_failing_after_is_only_a_warning(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 'kind = "gc"\n[jobs.j.hooks]\nafter = "/bin/false"\n')

    bench.run()

    assert bench.state.state == "warning"
    assert "hook after failed with exit code 1" in bench.log.lines
