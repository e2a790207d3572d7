"""Every key on every screen in read-only mode under a system-call trace: nothing is written."""

import re
import shutil
from pathlib import Path

import pytest
from tests.harness.terminal import Terminal
from tests.harness.tui import Bench

from holdfast_tui import keymap
from holdfast_tui.keys.key import Key
from holdfast_tui.screens import VIEWS

LEAVING = {"app.leave", "app.quit", "app.suspend", "app.interrupt"}
SENT = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "space": " ",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "shift+tab": "\x1b[Z",
    "f1": "\x1bOP",
    "backspace": "\x7f",
    "delete": "\x1b[3~",
}
CHANGING = re.compile(
    r"^\d+ +(?:\S+ )?(mkdir|mkdirat|rmdir|rename|renameat2?|unlink|unlinkat|link|linkat|symlink"
    r"|symlinkat|truncate|ftruncate|fallocate|utime|utimes|utimensat|futimesat|chmod|fchmod"
    r"|fchmodat|chown|fchown|lchown|fchownat|mknod|mknodat|setxattr|lsetxattr|fsetxattr"
    r"|removexattr|lremovexattr|fremovexattr|creat|copy_file_range|sendfile)\("
)
OPENED = re.compile(r'\bopen(?:at|at2)?\((?:[^"]*)"([^"]*)", ([A-Z_|0-9a-z]+)')
STARTED = re.compile(r"\bexecve(?:at)?\(")
WROTE = re.compile(r"\b(?:p?write|p?writev)(?:64|2)?\(\d+<([^>]*)>")
TERMINALS = ("/dev/pts/", "/dev/tty", "/dev/null", "pipe:", "anon_inode:", "socket:", "/dev/ptmx")


def sent_for(name: str) -> str:
    """What a terminal sends for one of Textual's names of keys."""
    if name in SENT:
        return SENT[name]
    if name.startswith("ctrl+"):
        return chr(ord(name[5]) & 0x1F)
    shown = keymap.text_of(Key(id="x.x", keys=name, action="", label="", help=""))
    return shown if len(shown) == 1 else ""


def keys_of(view: str) -> list[str]:
    """Every key of the view, of lists and of the app, those that leave excepted."""
    return [
        sent
        for table in (view, "list", "marks", "app")
        for key in keymap.TABLES[table]
        if key.id not in LEAVING and not key.id.startswith("app.view")
        for name in key.keys.split(",")
        if (sent := sent_for(name)) and name != "escape"
    ]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    assert shutil.which("strace"), "this test needs strace"
    return tmp_path / "trace"


def _press_everything(terminal: Terminal) -> None:
    numbers = [name for name in VIEWS if name != "detail"]
    for view in VIEWS:
        if view == "detail":
            terminal.press("2")
            terminal.read_for(0.4)
            terminal.press("l\r\r")
        else:
            terminal.press(str(numbers.index(view) + 1))
        terminal.read_for(0.4)
        for sent in keys_of(view):
            terminal.press(sent)
            terminal.read_for(0.02)
            if sent not in "jkgGnN" and not sent.startswith("\x1b"):
                terminal.press("\x1b")  # closes what it may have opened
                terminal.read_for(0.04)


def test_no_key_on_any_screen_writes_anything(looked_at: Bench, trace: Path) -> None:
    prefix = ("strace", "-f", "-y", "-qq", "-s", "64", "-o", str(trace))
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "ESCDELAY": "15"}
    with Terminal(
        looked_at.program,
        ("--read-only", "tui"),
        size=(100, 30),
        prefix=prefix,
        environment=environment,
    ) as terminal:
        terminal.read_until("Needs attention", seconds=60)
        _press_everything(terminal)
        for _ in range(6):  # whatever the last keys opened
            terminal.press("\x1b")
            terminal.read_for(0.5)
        terminal.press("4")
        terminal.read_until("Tasks (", seconds=60)
        assert "READ-ONLY" in terminal.screen()
        terminal.press("Q")
        assert terminal.wait(60) == 0
    found = [
        fault for line in trace.read_text(errors="replace").splitlines() if (fault := _fault(line))
    ]
    assert found == []


def _fault(line: str) -> str:
    """What a line of the trace tells of a change; empty for none."""
    if CHANGING.search(line) and " = -1 " not in line:
        return line
    opened = OPENED.search(line)
    if opened is not None and re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", opened[2]):
        return "" if opened[1].startswith(TERMINALS) else line
    wrote = WROTE.search(line)
    if wrote is not None and not wrote[1].startswith(TERMINALS):
        return line
    if STARTED.search(line) and "-m" not in line and " = -1 " not in line:
        return line
    return ""


def test_the_filter_of_the_trace_knows_a_write_when_it_sees_one() -> None:
    assert _fault('12 openat(AT_FDCWD</>, "/srv/x", O_WRONLY|O_CREAT, 0644) = 3</srv/x>')
    assert _fault('12 write(3</srv/x>, "a", 1) = 1')
    assert _fault('12 renameat2(AT_FDCWD</>, "a", AT_FDCWD</>, "b", 0) = 0')
    assert _fault('12 execve("/bin/sh", ["sh"], 0x1 /* 3 vars */) = 0')
    assert not _fault('12 write(2</dev/pts/1>, "a", 1) = 1')
    assert not _fault('12 openat(AT_FDCWD</>, "/srv/x", O_RDONLY|O_CLOEXEC) = 3</srv/x>')
