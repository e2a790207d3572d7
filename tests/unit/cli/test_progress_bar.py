"""holdfast.cli.progress_bar."""

import io
from argparse import Namespace

import pytest

from holdfast.cli.console import Console
from holdfast.cli.progress_bar import ConsoleProgress, status_text
from holdfast.operations.progress import RateEstimate
from holdfast.units import GIB, MIB


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class HandClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _progress(
    err: io.StringIO, clock: HandClock, *, quiet: bool = False
) -> tuple[Console, ConsoleProgress]:
    args = Namespace(json=False, quiet=quiet, verbose=0, no_color=True)
    console = Console(args, out=io.StringIO(), err=err)
    return console, ConsoleProgress(console, clock=clock)


def test_a_terminal_is_redrawn_at_most_five_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    err, clock = Terminal(), HandClock()
    _console, progress = _progress(err, clock)

    with progress:
        progress.phase("read")
        progress.total(bytes=10 * GIB)
        for _step in range(1000):
            clock.now_s += 0.01
            progress.advance(bytes=MIB)

    assert 45 <= err.getvalue().count("\r") <= 51
    assert err.getvalue().endswith("\r\x1b[K")


def test_without_a_terminal_lines_are_sparse_and_plain() -> None:
    err, clock = io.StringIO(), HandClock()
    _console, progress = _progress(err, clock)

    with progress:
        progress.phase("read")
        progress.total(bytes=10 * GIB)
        for _step in range(1300):
            clock.now_s += 0.1
            progress.advance(bytes=MIB)

    lines = err.getvalue().splitlines()
    assert len(lines) == 2
    assert "\r" not in err.getvalue()
    assert "\x1b" not in err.getvalue()
    assert lines[1].startswith("read      [#...................]   6 %  70")
    assert lines[1].endswith("MiB of 10.0 GiB  10.0 MiB/s  15:54 min left")


def test_quiet_shows_warnings_alone() -> None:
    err, clock = io.StringIO(), HandClock()
    console, progress = _progress(err, clock, quiet=True)

    with progress:
        progress.phase("read")
        clock.now_s += 100
        progress.advance(items=1)
        progress.warn("vanished: etc/a\x1bb")

    assert err.getvalue() == "warning: vanished: etc/a\\x1bb\n"
    assert progress.warnings == ["vanished: etc/a\x1bb"]
    assert console.warning_count == 1


def test_item_names_cannot_drive_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    err, clock = Terminal(), HandClock()
    _console, progress = _progress(err, clock)

    clock.now_s += 1
    progress.item("a\x1b]0;x\x07" + "b" * 500)

    shown = err.getvalue().removeprefix("\r\x1b[K")
    assert "\x1b" not in shown
    assert len(shown) < 200


def test_time_left_is_unknown_until_it_can_be_known() -> None:
    rate = RateEstimate()
    rate.sample(0.0, 0)
    rate.sample(0.5, 10 * MIB)

    early = status_text(phase="read", items=(0, None), octets=(10 * MIB, 100 * MIB), rate=rate)
    rate.sample(5.0, 50 * MIB)
    later = status_text(phase="read", items=(0, None), octets=(50 * MIB, 100 * MIB), rate=rate)

    assert early.endswith("time left unknown")
    assert later.endswith("5 s left")
