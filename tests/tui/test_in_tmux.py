"""The real program in a real terminal multiplexer at 80x24."""

import os
from pathlib import Path

import pytest
from tests.harness.tmux import Tmux
from tests.harness.tui import Bench


@pytest.fixture
def tmux(bench: Bench, tmp_path: Path) -> Tmux:
    return Tmux(bench.program, tmp_path / "socket")


def test_a_backup_survives_the_window_it_was_started_from(bench: Bench, tmux: Tmux) -> None:
    """Goal: jobs do not end with the terminal. Method: start one, kill the window, come back."""
    path = bench.home / "slow.raw"
    path.write_bytes(os.urandom(6 << 20))
    with tmux:
        tmux.wait_for("> main")
        tmux.press("B")
        tmux.wait_for("back up (paths, options)")
        tmux.type(f"slow.img:{path} --type vm --id 7 --chunk-size 64 --read-limit 250K")
        tmux.press("Enter")
        tmux.wait_for("One snapshot of this host")
        tmux.press("Enter")
        tmux.wait_for("main vm/7")
        before = bench.program.json("task", "list", "--running")
        assert any(task["kind"] == "backup" for task in before)
        tmux.close_window()

        running = bench.program.json("task", "list", "--running")
        assert [task["upid"] for task in running] == [task["upid"] for task in before]

        tmux.open("tui")
        tmux.wait_for("main vm/7")
        tmux.press("4")
        tmux.wait_for("TASK OK", seconds=180)
        upid = next(task["upid"] for task in before if task["kind"] == "backup")
        assert bench.program.json("task", "show", upid)["state"] == "ok"
        tmux.press("Q")


def test_a_file_of_an_old_snapshot_is_found_restored_and_the_same(bench: Bench, tmux: Tmux) -> None:
    with tmux:
        tmux.wait_for("> main")
        tmux.press("3")
        tmux.wait_for("What to restore from")
        tmux.wait_for("> host/web1")
        tmux.press("Enter")
        tmux.wait_for("2026-01-01")
        tmux.press("j", "j", "Enter")
        tmux.wait_for("etc.pxar")
        tmux.press("Enter")
        tmux.wait_for("big.bin")
        tmux.press("f")
        tmux.type("api")
        tmux.wait_for("api.conf")
        tmux.press("Enter")
        tmux.wait_for("spc mark")  # the list has the keys again
        tmux.press("Space")
        tmux.wait_for("1 marked")
        tmux.press("R")
        tmux.wait_for("1 new")
        tmux.press("Enter")
        tmux.wait_for("ok")
        for task in bench.program.json("task", "list", "--running"):
            bench.program.run("task", "attach", task["upid"])
        tmux.press("Q")
    (target,) = (bench.home / "restore").iterdir()
    restored = target / "nginx" / "conf.d" / "api.conf"
    assert restored.read_bytes() == b"server { # first\n}\n" * 9
