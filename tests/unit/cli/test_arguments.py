"""holdfast.cli.arguments."""

import argparse

import pytest

from holdfast.cli import arguments
from holdfast.errors import BadRequest


def _parser() -> arguments.Parser:
    parser = arguments.Parser(prog="holdfast test", allow_abbrev=False)
    parser.add_argument("specs", nargs="+")
    parser.add_argument("--type")
    arguments.add_global_options(parser)
    return parser


def test_global_options_before_the_command_are_split_from_what_follows() -> None:
    words = ["-s", "local", "--json", "--ns=prod", "ls", "-s", "x"]

    assert arguments.split_command(words) == (
        ["-s", "local", "--json", "--ns=prod"],
        "ls",
        ["-s", "x"],
    )


def test_an_unknown_option_before_the_command_is_refused() -> None:
    with pytest.raises(BadRequest, match="--frobnicate"):
        arguments.split_command(["--frobnicate", "ls"])


def test_options_may_stand_between_positional_words() -> None:
    args = arguments.parse(_parser(), ["a", "--type", "vm", "b", "--json", "c"])

    assert (args.specs, args.type, args.json) == (["a", "b", "c"], "vm", True)


def test_what_is_said_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_STORE", "from-environment")
    monkeypatch.setenv("HOLDFAST_NS", "prod/eu")

    args = arguments.parse(_parser(), ["a", "--store", "said"])

    assert (args.store, args.ns) == ("said", "prod/eu")


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("yes", True), ("0", False)])
def test_read_only_can_be_said_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: bool
) -> None:
    monkeypatch.setenv("HOLDFAST_READ_ONLY", text)

    assert arguments.parse(_parser(), ["a"]).read_only is expected


def test_a_read_only_setting_nobody_understands_is_no_licence_to_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOLDFAST_READ_ONLY", "treu")

    with pytest.raises(BadRequest, match="HOLDFAST_READ_ONLY"):
        arguments.parse(_parser(), ["a"])


def test_verbs_take_global_options_on_either_side() -> None:
    parser = arguments.Parser(prog="holdfast key", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("create", allow_abbrev=False).add_argument("path")
    arguments.add_global_options(parser)

    args = arguments.parse(parser, ["--json", "create", "f", "-q", "--ns", "a"])

    assert (args.verb, args.path, args.json, args.quiet, args.ns) == (
        "create",
        "f",
        True,
        True,
        "a",
    )


def test_an_ordinary_user_gets_xdg_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/ann/cfg")
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/ann")

    assert arguments.default_config_path() == "/home/ann/cfg/holdfast/config.toml"
    assert arguments.default_state_directory() == "/home/ann/.local/state/holdfast"


def test_a_parser_complains_with_an_error_that_main_can_show() -> None:
    with pytest.raises(BadRequest, match="required") as caught:
        arguments.parse(_parser(), [])

    assert caught.value.hint == "see `holdfast test --help`"
    assert not isinstance(caught.value, argparse.ArgumentError)
