"""Changes to the configuration file that keep its comments, order and layout."""

import os
from collections.abc import Mapping, Sequence

from holdfast.config import toml_source
from holdfast.config.settings import Settings
from holdfast.errors import BadRequest
from holdfast.host import files


def add_store(path: str, name: str, options: Mapping[str, str | int | bool]) -> None:
    """Write a new `[stores.NAME]` into the file, which is made when it is not there.

    Args:
        path: the configuration file.
        name: not yet used.
        options: keys and values of the table, in order.

    Raises:
        BadRequest: the name or the path is taken, or the file would not be valid afterwards.
        HoldfastError: it cannot be written.
    """
    if name in Settings.read(path).stores:
        raise BadRequest(
            f"{path} already has a store called {name!r}", hint="choose another --name"
        )
    _add_table(path, "stores", name, options)


def add_job(path: str, name: str, options: Mapping[str, str | int | bool | Sequence[str]]) -> None:
    """Write a new `[jobs.NAME]` into the file.

    Raises:
        BadRequest: the name is taken, or the file would not be valid afterwards.
        HoldfastError: it cannot be written.
    """
    if name in Settings.read(path).jobs:
        raise BadRequest(f"{path} already has a job called {name!r}", hint="choose another name")
    _add_table(path, "jobs", name, options)


def _add_table(
    path: str, area: str, name: str, options: Mapping[str, str | int | bool | Sequence[str]]
) -> None:
    import tomlkit

    document = tomlkit.parse(_text(path))
    tables = document.get(area)
    if tables is None:
        tables = tomlkit.table(is_super_table=True)
        document[area] = tables
    table = tomlkit.table()
    for key, value in options.items():
        table[key] = value
    tables[name] = table
    replace(path, tomlkit.dumps(document))


def set_value(path: str, keys: tuple[str, ...], *, value: str | int | bool) -> None:
    """Change or add one value, `("jobs", "nightly", "enabled")` for example.

    Raises:
        BadRequest: the table is not there, or the file would not be valid afterwards.
        HoldfastError: it cannot be written.
    """
    import tomlkit

    document = tomlkit.parse(_text(path))
    table: object = document
    for at, key in enumerate(keys[:-1], start=1):
        if not isinstance(table, Mapping) or key not in table:
            raise BadRequest(f"{path} has no table [{'.'.join(keys[:at])}]")
        table = table[key]
    if not hasattr(table, "__setitem__"):
        raise BadRequest(f"{path}: [{'.'.join(keys[:-1])}] is no table")
    table[keys[-1]] = value
    replace(path, tomlkit.dumps(document))


def replace(path: str, text: str) -> None:
    """Put `text` in place of the file in one step, if it is a valid configuration (BadRequest)."""
    raw = text.encode()
    Settings.parse(toml_source.parse(path, raw))
    target = os.path.realpath(path)  # an administrator's symbolic link stays one
    with files.explained(f"writing the configuration {path}"):
        _make_directories(os.path.dirname(target))
        try:
            info = os.stat(target)
            mode, owner = info.st_mode & 0o7777, (info.st_uid, info.st_gid)
        except FileNotFoundError:
            mode, owner = 0o644, (os.geteuid(), os.getegid())
        files.replace_file(target, [raw], mode=mode, owner=owner, sync=True)


def _make_directories(path: str) -> None:
    if not os.path.isdir(path):
        _make_directories(os.path.dirname(path))
        files.make_directory(path)


def _text(path: str) -> str:
    with files.explained(f"reading the configuration {path}"):
        try:
            return files.read_file(
                os.path.realpath(path), size_max=toml_source.CONFIG_BYTES_MAX
            ).decode()
        except FileNotFoundError:
            return ""
