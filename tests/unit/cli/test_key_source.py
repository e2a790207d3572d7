"""holdfast.cli.key_source."""

import io
from pathlib import Path

import pytest

from holdfast.cli import key_source
from holdfast.errors import HoldfastError, KeyProblem


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for variable in (key_source.OLD, key_source.NEW):
        for suffix in ("", "_FILE", "_CMD"):
            monkeypatch.delenv(variable + suffix, raising=False)


def test_the_variable_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"from file\r\nmore\n")
    monkeypatch.setenv("HOLDFAST_PASSWORD_FILE", str(tmp_path / "p"))
    assert key_source.passphrase("x") == b"from file"

    monkeypatch.setenv("HOLDFAST_PASSWORD", "said")
    assert key_source.passphrase("x") == b"said"


def test_the_first_line_of_a_program_is_the_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_PASSWORD_CMD", "printf 'caf\\xc3\\xa9\\nrest'")

    assert key_source.passphrase("x") == "café".encode()


def test_nobody_to_ask_is_a_key_problem() -> None:
    with pytest.raises(KeyProblem, match="passphrase of k"):
        key_source.passphrase("passphrase of k")


def test_two_different_answers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["first one", "second one"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(answers))

    with pytest.raises(KeyProblem, match="differ"):
        key_source.new_passphrase("new")


def test_a_missing_passphrase_file_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_PASSWORD_FILE", "/no/such/file")

    with pytest.raises(HoldfastError, match="/no/such/file"):
        key_source.passphrase("x")
