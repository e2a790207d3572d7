"""The real program on a pseudo-terminal: start, signals, a terminal that goes away, bytes sent."""

import os
import re
import signal
import subprocess

import pytest
from tests.harness.terminal import Terminal
from tests.harness.tui import Bench

ALT_SCREEN_OFF = b"\x1b[?1049l"
LIVE_BYTES_PER_S_MAX = 4096
ALLOWED = re.compile(
    rb"\x1b(\[[0-9;:?<=>$]*[a-zA-Z@`~]|\][0-9]+;[^\x07\x1b]*(\x07|\x1b\\)|[=>78cM]|\([B0]|P[^\x1b]*\x1b\\)"
)


def _opened(bench: Bench, *words: str, **environment: str) -> Terminal:
    return Terminal(bench.program, (*words, "tui"), environment=environment)


def test_it_opens_without_a_command_and_quits_with_q(looked_at: Bench) -> None:
    with Terminal(looked_at.program, ()) as terminal:
        terminal.read_until("> main")
        terminal.press("q")

        assert terminal.wait() == 0
        assert ALT_SCREEN_OFF in terminal.sent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_the_terminal_restored(
    looked_at: Bench, number: signal.Signals
) -> None:
    with _opened(looked_at) as terminal:
        terminal.read_until("Needs attention")
        os.kill(terminal.pid, number)

        assert terminal.wait() == 0
        assert ALT_SCREEN_OFF in terminal.sent


def test_a_terminal_that_goes_away_ends_it_even_without_a_signal(looked_at: Bench) -> None:
    """SIGHUP may be ignored (nohup): a dead terminal must not leave a spinning process."""
    terminal = Terminal(looked_at.program, ("tui",), prefix=("env", "--ignore-signal=HUP"))
    with terminal:
        terminal.read_until("Needs attention")
        os.close(terminal._fd)
        terminal._fd = -1
        assert terminal._child is not None
        assert terminal._child.wait(20) is not None


def test_no_color_sends_no_colour(looked_at: Bench) -> None:
    with _opened(looked_at, NO_COLOR="1") as terminal:
        terminal.read_until("Needs attention")
        colours = re.findall(
            rb"\x1b\[[0-9;]*?(?:3[0-7]|9[0-7]|4[0-7]|38;|48;)[0-9;]*m", terminal.sent
        )

        assert colours == []


def test_a_plain_locale_gets_plain_letters(looked_at: Bench) -> None:
    with _opened(looked_at, LC_ALL="C", TERM="linux") as terminal:
        terminal.read_until("Needs attention")
        terminal.press("2")
        terminal.read_for(1.0)

        assert bytes(terminal.sent).isascii()


def test_nothing_but_known_sequences_is_sent(looked_at: Bench) -> None:
    with _opened(looked_at) as terminal:
        terminal.read_until("Needs attention")
        for key in "2345678":
            terminal.press(key)
            terminal.read_for(0.3)
        rest = ALLOWED.sub(b"", bytes(terminal.sent))

        assert set(rest) & set(range(32)) <= {0x0D, 0x0A}, rest[:200]


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_can_do_nothing_gets_a_sentence(looked_at: Bench, term: str) -> None:
    with _opened(looked_at, TERM=term) as terminal:
        assert terminal.wait() == 2
        assert b"the terminal UI cannot run" in terminal.sent


def test_without_a_terminal_it_says_what_to_use(looked_at: Bench) -> None:
    result = looked_at.program.run("tui", code=2)

    assert "holdfast task list" in result.err


def test_an_idle_dashboard_sends_nothing_and_a_busy_one_little(bench: Bench) -> None:
    with Terminal(bench.program, ("tui",)) as terminal:
        terminal.read_until("Needs attention")
        terminal.read_for(2)
        assert terminal.read_for(4) < 200
        for number in range(4):
            path = bench.home / f"slow{number}.raw"
            path.write_bytes(os.urandom(12 << 20))
            bench.program.run(
                *("backup", f"slow.img:{path}", "--type", "vm", "--id", f"{900 + number}"),
                *("--chunk-size", "64", "--read-limit", "150K", "--detach"),
            )
        terminal.read_until("Running (4)", seconds=60)
        terminal.read_for(2)
        rates: list[float] = []
        while not any(rates) and len(rates) < 30:  # a busy machine may leave some windows empty
            rates.append(terminal.read_for(2) / 2)
        rates += [terminal.read_for(2) / 2 for _ in range(3)]
        assert 0 < max(rates) <= LIVE_BYTES_PER_S_MAX, rates
        for task in bench.program.json("task", "list", "--running"):
            bench.program.run("task", "stop", task["upid"])


def test_version_does_not_wait_for_the_terminal_ui(looked_at: Bench) -> None:
    done = subprocess.run(
        [*looked_at.program.command[:1], "-X", "importtime", "-m", "holdfast", "version"],
        env=looked_at.program.environment,
        capture_output=True,
        check=True,
    )

    assert b"textual" not in done.stderr
