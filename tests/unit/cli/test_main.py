"""holdfast.cli.main."""

import json

import pytest

import holdfast
from holdfast.cli import commands, main


@pytest.fixture(autouse=True)
def _no_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.cli.signals.install", lambda: None)


@pytest.mark.parametrize(
    "words", [["version"], ["--version"], ["-q", "version"], ["version", "--no-color"]]
)
def test_prints_the_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 0
    assert capsys.readouterr().out == f"holdfast {holdfast.__version__}\n"


def test_json_is_one_document_wherever_the_option_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--json", "version"], ["version", "--json"]):
        assert main.main(words) == 0
        assert json.loads(capsys.readouterr().out) == {"version": holdfast.__version__}


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["verson"]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did you mean `version`?" in captured.err


def test_errors_are_json_on_stderr_when_json_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["version", "--json", "--frobnicate"]) == 2

    captured = capsys.readouterr()
    error = json.loads(captured.err)["error"]
    assert captured.out == ""
    assert (error["code"], error["kind"]) == (2, "usage")
    assert "--frobnicate" in error["message"]
    assert error["hint"]


def test_help_lists_every_command_that_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0

    out = capsys.readouterr().out
    for command in commands.built():
        assert f"  {command.name}" in out


@pytest.mark.parametrize("name", [command.name for command in commands.built()])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([name, "--help"]) == 0
    assert f"holdfast {name}" in capsys.readouterr().out


def test_a_crash_is_one_sentence_and_a_traceback_only_with_vv(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("holdfast.cli.version_cmd.run", lambda *_args: 1 // 0)

    assert main.main(["version"]) == 1
    assert "Traceback" not in (quiet := capsys.readouterr().err)
    assert quiet.startswith("error: unexpected: ZeroDivisionError")

    assert main.main(["version", "-vv"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("holdfast.cli.version_cmd.run", interrupted)

    assert main.main(["version"]) == 130
    assert "stopped" in capsys.readouterr().err
