"""Where the encryption key and its passphrase come from.

The passphrase is the first of: HOLDFAST_PASSWORD, the first line of the file HOLDFAST_PASSWORD_FILE,
the first line that the program HOLDFAST_PASSWORD_CMD prints, an answer on a terminal. HOLDFAST_NEW_...
are the same for the passphrase that replaces another.
"""

import os
import sys
from argparse import Namespace as Arguments
from typing import TYPE_CHECKING, Final

from holdfast.config.settings import Settings
from holdfast.datastore.keys import EncryptionKey
from holdfast.errors import HoldfastError, KeyProblem
from holdfast.host import files

if TYPE_CHECKING:
    from holdfast.cli.console import Console
    from holdfast.datastore.key_files import KeyFile

OLD: Final = "HOLDFAST_PASSWORD"
NEW: Final = "HOLDFAST_NEW_PASSWORD"
_PASSWORD_BYTES_MAX: Final = 64 * 1024


def load_key(args: Arguments) -> EncryptionKey | None:
    """The key of --keyfile, or of the store's configuration; None when neither names one.

    Raises:
        NotFound: there is no such file.
        KeyProblem: no passphrase, or the wrong one.
        DamagedData: it is no key file.
    """
    path = key_path(args)
    return None if not path else unlock(path)


def key_path(args: Arguments) -> str | None:
    """The key file of --keyfile, or of the store's configuration."""
    return args.keyfile or Settings.read(args.config).store(args.store).keyfile


def asked_ahead(path: str | None) -> dict[str, bytes]:
    """For a worker that cannot ask: the passphrase of the key at `path`, if it has to be typed.

    Returns:
        By the variable that names the file it is to be read from; empty when there is no need.

    Raises:
        KeyProblem: the passphrase is wrong.
        NotFound, DamagedData: there is no such key file.
    """
    if not path or _said(OLD) is not None or not _can_ask():
        return {}
    from holdfast.datastore import key_files

    key_file = key_files.load(path)
    if not key_file.has_passphrase:
        return {}
    typed = _ask(f"passphrase of {path}: ")
    key_file.unlock(typed)
    return {f"{OLD}_FILE": typed}


def load_key_if_possible(args: Arguments, console: "Console") -> EncryptionKey | None:
    """load_key for work that can do without: a key that is only configured may stay locked."""
    try:
        return load_key(args)
    except HoldfastError as error:
        if args.keyfile:
            raise
        console.remark(f"going on without the configured key: {error.message}")
        return None


def wrapped_key(args: Arguments, key: EncryptionKey | None) -> bytes | None:
    """`key` encrypted for the store's master key; None when there is no key or no master key.

    Raises:
        KeyProblem: the configured file is no RSA public key.
        HoldfastError: it cannot be read.
    """
    path = Settings.read(args.config).store(args.store).master_key
    if key is None or path is None:
        return None
    from holdfast.datastore import key_files, master_key

    with files.explained(f"reading the master key {path}"):
        pem = files.read_file(os.path.realpath(path), size_max=master_key.PEM_BYTES_MAX)
    return master_key.wrap_for_master(key, pem, created=key_files.timestamp())


def unlock(path: str) -> EncryptionKey:
    """The key in one file; its passphrase is looked for only if it has one (see load_key)."""
    from holdfast.datastore import key_files

    return open_key_file(path, key_files.load(path))


def open_key_file(path: str, key_file: "KeyFile") -> EncryptionKey:
    """The key inside `key_file`, which was read from `path` (KeyProblem)."""
    if not key_file.has_passphrase:
        return key_file.unlock(None)
    return key_file.unlock(passphrase(f"passphrase of {path}"))


def passphrase(question: str, *, variable: str = OLD) -> bytes:
    """The passphrase as UTF-8 bytes (KeyProblem when there is none or a source fails)."""
    found = _said(variable)
    if found is not None:
        return found
    if not _can_ask():
        raise KeyProblem(
            f"a passphrase is needed: {question}",
            hint=f"set {variable}, {variable}_FILE or {variable}_CMD; no terminal is there to ask",
        )
    return _ask(f"{question}: ")


def new_passphrase(question: str, *, variable: str = OLD) -> bytes:
    """A passphrase to be set; asked for twice on a terminal (KeyProblem)."""
    found = _said(variable)
    if found is not None or not _can_ask():
        return passphrase(question, variable=variable)
    answer = _ask(f"{question}: ")
    if _ask("once more: ") != answer:
        raise KeyProblem("the two passphrases differ, nothing was changed")
    return answer


def _said(variable: str) -> bytes | None:
    if (text := os.environ.get(variable)) is not None:
        return os.fsencode(text)
    if path := os.environ.get(f"{variable}_FILE"):
        return _from_file(path)
    if command := os.environ.get(f"{variable}_CMD"):
        return _from_command(command, f"{variable}_CMD")
    return None


def _from_file(path: str) -> bytes:
    try:
        with open(path, "rb") as source:  # a pipe or /dev/stdin will do
            raw = source.read(_PASSWORD_BYTES_MAX)
    except OSError as error:
        raise files.as_holdfast_error(error, f"reading the passphrase file {path}") from error
    return raw.partition(b"\n")[0].removesuffix(b"\r")


def _from_command(command: str, variable: str) -> bytes:
    import shlex
    import subprocess

    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    except (OSError, ValueError) as error:
        raise KeyProblem(f"{variable} cannot be run: {error}") from error
    if done.returncode != 0:
        raise KeyProblem(f"the program of {variable} ended with exit code {done.returncode}")
    return done.stdout.partition(b"\n")[0].removesuffix(b"\r")


def _can_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _ask(prompt: str) -> bytes:
    import getpass

    return os.fsencode(getpass.getpass(prompt))
