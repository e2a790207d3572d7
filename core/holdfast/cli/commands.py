"""The table of commands: a name, the module that is imported when it is chosen, one line of help.

To add a command, write `holdfast/cli/<verb>_cmd.py` with

    def add_arguments(parser: ArgumentParser) -> None: ...
    def run(args: Namespace, console: Console) -> int: ...

and put its line here. A long command may also have `prepared(args)`, a context manager entered
before the journal is opened; processes it starts go into `args.beside`, so that limits hold for
them, too. `run` returns an exit code from `holdfast.errors`; warnings that went through
`console.warning` or a `console.progress()` turn 0 into 3. Global options are already in `args`:
`store`, `ns`, `config`, `state_dir`, `keyfile`, `read_only`, `json`, `quiet`, `verbose`.
`holdfast.cli.selection` opens the store and finds snapshots; `holdfast.cli.key_source` finds the key.
"""

import importlib
import importlib.util
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from holdfast.cli.console import Console


class CommandModule(Protocol):
    """What a `<verb>_cmd.py` has to offer."""

    def add_arguments(self, parser: ArgumentParser) -> None: ...
    def run(self, args: Namespace, console: "Console") -> int: ...


class Command(NamedTuple):
    """One line of the table."""

    name: str
    summary: str
    group: str
    aliases: tuple[str, ...] = ()

    @property
    def module_name(self) -> str:
        return f"holdfast.cli.{self.name.replace('-', '_')}_cmd"

    @property
    def is_built(self) -> bool:
        return importlib.util.find_spec(self.module_name) is not None

    def load(self) -> CommandModule:
        return importlib.import_module(self.module_name)


BACKUP: Final = "back up and restore"
LOOK: Final = "look"
CARE: Final = "care for a store"
WORK: Final = "tasks and jobs"
MACHINES: Final = "machines and databases"
HOST: Final = "this program"

COMMANDS: Final[tuple[Command, ...]] = (
    Command("backup", "take one snapshot of directories, images and files", BACKUP),
    Command("restore", "bring files, an image or a blob back", BACKUP),
    Command("export", "write an archive as tar, zip or raw bytes", BACKUP),
    Command("cat", "print one file of an archive", BACKUP),
    Command("snapshots", "list what there is, newest last", LOOK, ("list",)),
    Command("show", "everything known about one snapshot", LOOK),
    Command("ls", "list the files of a snapshot", LOOK),
    Command("find", "find a path across all snapshots", LOOK),
    Command("diff", "compare two snapshots", LOOK),
    Command("stats", "deduplication, compression, sizes", LOOK),
    Command("usage", "which snapshots and groups use the space", LOOK),
    Command("init", "make a store", CARE),
    Command("verify", "read everything again and check it", CARE),
    Command("affected", "which files a damaged chunk carries", CARE),
    Command("prune", "forget snapshots by a retention policy", CARE),
    Command("forget", "forget one snapshot", CARE),
    Command("protect", "keep a snapshot from being forgotten", CARE),
    Command("unprotect", "allow a snapshot to be forgotten again", CARE),
    Command("comment", "write a note on a snapshot", CARE),
    Command("gc", "remove chunks that no snapshot needs", CARE),
    Command("key", "make and care for encryption keys", CARE),
    Command("task", "what runs and what ran", WORK),
    Command("job", "configured jobs", WORK),
    Command("scheduler", "run configured jobs when they are due", WORK),
    Command("systemd", "write service units for the scheduler", WORK),
    Command("vm", "back up running virtual machines", MACHINES),
    Command("nbd", "serve a backup as a network block device", MACHINES),
    Command("bitmap", "dirty bitmaps of disks", MACHINES),
    Command("pg", "PostgreSQL base backups", MACHINES),
    Command("wal", "PostgreSQL write-ahead log archive", MACHINES),
    Command("tui", "the full-screen view", HOST),
    Command("demo", "make a small store of real data and show it", HOST),
    Command("doctor", "check configuration, stores and this machine", HOST),
    Command("completion", "shell completion for bash, zsh or fish", HOST),
    Command("version", "print the version", HOST),
)


def find(name: str) -> Command | None:
    """The command called `name`, by its name or an alias; None when there is none (yet)."""
    for command in COMMANDS:
        if (name == command.name or name in command.aliases) and command.is_built:
            return command
    return None


def built() -> list[Command]:
    """Every command that can be run."""
    return [command for command in COMMANDS if command.is_built]


def similar(name: str) -> str | None:
    """The command somebody who typed `name` may have meant."""
    import difflib

    names = [known for command in built() for known in (command.name, *command.aliases)]
    close = difflib.get_close_matches(name, names, n=1)
    return close[0] if close else None
