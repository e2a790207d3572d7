"""holdfast.cli.console."""

import io
import json
import os
from argparse import Namespace

import pytest

from holdfast.cli.console import Console, OutputClosed
from holdfast.errors import BadRequest, NoSpace, NotFound, Refused


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _console(
    *, out: io.StringIO | None = None, err: io.StringIO | None = None, **options: object
) -> Console:
    settings: dict[str, object] = {"json": False, "quiet": False, "verbose": 0, "no_color": False}
    return Console(
        Namespace(**settings | options), out=out or io.StringIO(), err=err or io.StringIO()
    )


def test_quiet_keeps_remarks_back_but_not_warnings() -> None:
    err = io.StringIO()
    console = _console(err=err, quiet=True)

    console.remark("by the way")
    console.warning("etc/shadow was skipped")

    assert err.getvalue() == "warning: etc/shadow was skipped\n"
    assert console.warning_count == 1


def test_tables_make_names_harmless() -> None:
    out = io.StringIO()

    _console(out=out).lines([("a\x1b[2Jb", "1"), ("c", "22")], right=[1])

    assert out.getvalue() == "a\\x1b[2Jb   1\nc          22\n"


def test_colours_need_a_terminal_and_no_objection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    assert _console(out=Terminal()).styled("x", "bad") == "\x1b[1;31mx\x1b[0m"
    assert _console(out=Terminal(), no_color=True).styled("x", "bad") == "x"
    assert _console(out=io.StringIO()).styled("x", "bad") == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert _console(out=Terminal()).styled("x", "bad") == "x"


def test_an_error_document_carries_the_hint() -> None:
    err = io.StringIO()

    _console(err=err, json=True).error(NotFound("no store 'x'", hint="try `holdfast doctor`"))

    assert json.loads(err.getvalue()) == {
        "error": {
            "code": 10,
            "kind": "not-found",
            "message": "no store 'x'",
            "hint": "try `holdfast doctor`",
        }
    }


def test_names_that_are_no_unicode_survive_json() -> None:
    out = io.StringIO()

    _console(out=out).document({"path": b"caf\xe9".decode("utf-8", "surrogateescape")})

    assert out.getvalue().isascii()
    assert json.loads(out.getvalue())["path"].encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_without_a_terminal_a_confirmation_needs_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    console = _console()

    console.confirm("forget it", yes=True)
    with pytest.raises(BadRequest, match="confirmation"):
        console.confirm("forget it", yes=False)


@pytest.mark.parametrize(
    ("word", "answer", "agrees"),
    [
        (None, "y\n", True),
        (None, "\n", False),
        (None, "", False),
        ("web1", "y\n", False),
        ("web1", "web1\n", True),
    ],
)
def test_on_a_terminal_only_the_right_answer_agrees(
    monkeypatch: pytest.MonkeyPatch, word: str | None, answer: str, agrees: bool
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    console = _console(err=Terminal())

    if agrees:
        console.confirm("forget host/web1", yes=False, word=word)
    else:
        with pytest.raises(Refused):
            console.confirm("forget host/web1", yes=False, word=word)


def test_a_closed_pipe_ends_the_output_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        console = Console(
            Namespace(json=False, quiet=False, verbose=0, no_color=False),
            out=out,
            err=io.StringIO(),
        )
        with pytest.raises(OutputClosed) as caught:
            console.data_bytes(b"x" * 100_000)

    assert caught.value.exit_code == 141


def test_a_full_disk_behind_stdout_is_an_error_and_not_silence() -> None:
    with open("/dev/full", "w", encoding="utf-8") as out:
        console = Console(
            Namespace(json=False, quiet=False, verbose=0, no_color=False),
            out=out,
            err=io.StringIO(),
        )
        console.data("x")
        with pytest.raises(NoSpace):
            console.flush()
