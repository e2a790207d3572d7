"""`holdfast key` as a person runs it."""

import stat
from pathlib import Path

import pytest
from tests.harness.program import Program

PASSWORD = {"HOLDFAST_PASSWORD": "correct horse"}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_a_new_key_is_a_private_file_that_its_passphrase_opens(program: Program, kdf: str) -> None:
    made = program.run("key", "create", "k", "--kdf", kdf, "--json", env=PASSWORD).document

    assert made["kdf"] == kdf
    assert len(made["fingerprint"].split(":")) == 32
    assert stat.S_IMODE((program.home / "k").stat().st_mode) == 0o600
    assert program.json("key", "info", "k") == made


def test_a_key_is_never_overwritten(program: Program) -> None:
    program.run("key", "create", "k", "--kdf", "none")
    before = (program.home / "k").read_bytes()

    program.run("key", "create", "k", "--kdf", "none", code=2)

    assert (program.home / "k").read_bytes() == before


def test_without_a_terminal_a_passphrase_has_to_come_from_somewhere(program: Program) -> None:
    result = program.run("key", "create", "k", "--json", code=12)

    assert result.error["kind"] == "key"
    assert "HOLDFAST_PASSWORD" in result.error["hint"]
    assert not (program.home / "k").exists()


def test_changing_the_passphrase_keeps_the_key(program: Program) -> None:
    made = program.run("key", "create", "k", "--json", env=PASSWORD).document
    new = {**PASSWORD, "HOLDFAST_NEW_PASSWORD": "battery staple"}

    changed = program.run("key", "change-passphrase", "k", "--json", env=new).document
    program.run("key", "change-passphrase", "k", env=new, code=12)  # the old one is no longer it

    assert changed["fingerprint"] == made["fingerprint"]
    assert changed["created"] == made["created"]


@pytest.mark.parametrize("source", ["_FILE", "_CMD"])
def test_the_passphrase_comes_from_a_file_or_a_program(program: Program, source: str) -> None:
    program.run("key", "create", "k", env=PASSWORD)
    (program.home / "secret").write_text("correct horse\nnot this line\n")
    value = "secret" if source == "_FILE" else "cat secret"
    env = {f"HOLDFAST_PASSWORD{source}": value, "HOLDFAST_NEW_PASSWORD": "another one"}

    program.run("key", "change-passphrase", "k", env=env)


@pytest.mark.parametrize(
    "env",
    [
        {"HOLDFAST_PASSWORD_CMD": "false"},
        {"HOLDFAST_PASSWORD_CMD": "/no/such/program"},
        {"HOLDFAST_PASSWORD_CMD": "'"},
        {"HOLDFAST_PASSWORD": "four"},
    ],
)
def test_a_source_that_fails_is_a_key_problem(program: Program, env: dict[str, str]) -> None:
    assert program.run("key", "create", "k", env=env, code=12).err.startswith("error: ")


def test_a_paper_key_can_be_typed_in_again(program: Program) -> None:
    made = program.run("key", "create", "k", "--hint", "xkcd", "--json", env=PASSWORD).document
    text = program.run("key", "paper", "k", "--subject", "laptop").text
    (program.home / "typed").write_text(text)

    back = program.json("key", "import", "typed", "k2")

    assert "█" in text
    assert text.startswith("laptop")
    assert back["fingerprint"] == made["fingerprint"]
    assert (program.home / "k2").read_bytes() == (program.home / "k").read_bytes()
    assert "<svg" in program.run("key", "paper", "k", "--format", "html").text


def test_a_master_key_is_a_pair_and_can_be_printed(program: Program) -> None:
    pair = program.run("key", "create", "m", "--master", "--json", env=PASSWORD).document

    assert "BEGIN PUBLIC KEY" in Path(program.home, pair["public"]).read_text()
    assert "ENCRYPTED PRIVATE KEY" in Path(program.home, pair["private"]).read_text()
    assert stat.S_IMODE(Path(program.home, pair["private"]).stat().st_mode) == 0o600
    assert (
        "00: -----BEGIN ENCRYPTED PRIVATE KEY" in program.run("key", "paper", "m-private.pem").text
    )
    program.run("key", "create", "m", "--master", env=PASSWORD, code=2)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["key"], 2),
        (["key", "info"], 2),
        (["key", "info", "nowhere"], 10),
        (["key", "info", "noise"], 20),
        (["key", "import", "noise", "k"], 2),
        (["key", "create", "k", "--read-only"], 13),
        (["key", "create", "k", "--kdf", "rot13"], 2),
        (["key", "create", "no/such/directory/k", "--kdf", "none"], 1),
    ],
)
def test_bad_input_is_one_error(program: Program, words: list[str], code: int) -> None:
    (program.home / "noise").write_bytes(bytes(range(256)))

    assert program.run(*words, "--json", code=code).error["code"] == code
