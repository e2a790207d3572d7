"""holdfast.cli.completion_cmd: the bash script is run by bash, the others are read."""

import subprocess

import pytest

from holdfast.cli import commands, completion_cmd


def _complete(*words: str) -> list[str]:
    script = completion_cmd.bash_script(completion_cmd.describe())
    line = " ".join(f"'{word}'" for word in words)
    program = f"""{script}
COMP_WORDS=({line})
COMP_CWORD={len(words) - 1}
_holdfast
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    result = subprocess.run(
        ["bash", "-u"], input=program, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return result.stdout.split()


def test_bash_completes_commands() -> None:
    assert _complete("holdfast", "vers") == ["version"]


def test_bash_finds_the_command_behind_global_options() -> None:
    assert _complete("holdfast", "--store", "version", "-q", "compl") == ["completion"]


def test_bash_completes_the_words_of_a_command() -> None:
    assert _complete("holdfast", "completion", "") == ["bash", "zsh", "fish"]


def test_bash_completes_options() -> None:
    assert _complete("holdfast", "version", "--js") == ["--json"]


@pytest.mark.parametrize("make", [completion_cmd.zsh_script, completion_cmd.fish_script])
def test_the_other_shells_know_every_command_and_option(make: object) -> None:
    assert callable(make)
    found = completion_cmd.describe()

    script = make(found)

    for command in found:
        assert command.names[0] in script
        for option in command.options:
            assert option.names[-1].lstrip("-") in script


def test_every_built_command_is_described() -> None:
    described = {name for words in completion_cmd.describe() for name in words.names}

    assert described == {
        name for command in commands.built() for name in (command.name, *command.aliases)
    }
