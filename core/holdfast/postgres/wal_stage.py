"""The stage: the directory beside a server where WAL files are safe before they are in the store.

    STAGE/
      archive.json            which cluster and which store; written once by `wal init`
      requests                one byte and three locks, see jobs/request_flags.py
      current -> 1760000000   the generation that new files belong to
      1760000000/             one consistent history, named by the second in which it began
        pg_wal/NAME.zst       a WAL file, compressed, complete from the moment it can be seen
        began-with -> NAME    the file with which time was found to have gone back
        carried/NAME -> HEX   a file that the store has and the stage no longer: its SHA-256
        forgotten-TLI -> NAME the segments before had such a marker once
        base.json             the base backup that recovery in this history starts from
      scripts/backup          an executable of the user, run after each carry
      stream/                 what `wal stream` receives, the unfinished segment included
      sync.log                what the background sync says

A new generation begins with the first file of all, and when time went back: when the server hands
in a name that is known with another content, because it was restored and repeats its names. Then
nothing is overwritten; the new file belongs to the new generation. Generations are made and
`current` is switched with the lock STATE held. Story: docs/formats/postgres.md

Start-up of `wal push` is counted in milliseconds: this module imports little.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple, Self

from holdfast.errors import BadRequest, DamagedData, NotFound, Refused
from holdfast.host import files
from holdfast.jobs.request_flags import RequestFlags
from holdfast.postgres.wal_names import WalKind, WalName, is_segment_size, parse_wal_name

ARCHIVE: Final = 1  # flags: carry WAL to the store, run the user's script
SNAPSHOT: Final = 2  # take a full base backup
LOG_NAME: Final = "sync.log"
SETTINGS_NAME: Final = "archive.json"
REQUESTS_NAME: Final = "requests"
CURRENT_NAME: Final = "current"
STREAM_DIRECTORY: Final = "stream"
BEGAN_NAME: Final = "began-with"
FORGOTTEN_PREFIX: Final = "forgotten-"
SUFFIX: Final = ".zst"
_FORMAT: Final = 1
_SETTINGS_BYTES_MAX: Final = 64 * 1024
_GENERATION_DIGITS: Final = range(1, 20)


class StageSettings(NamedTuple):
    """What `archive.json` says.

    Attributes:
        cluster: the name backups of the cluster have in the store.
        system_identifier: of the cluster.
        segment_bytes: size of its WAL segments.
        data_directory: of the server.
        store, ns, config, state_dir, keyfile: where backups go, as the command line names them;
            "" is unset.
        level: of zstd.
        on_conflict: "new-generation", or "refuse" to fail when time went back.
        pause_s_first, pause_s_max: between attempts of the sync.
        base_command: what takes a full base backup, in place of `holdfast pg backup`.
    """

    cluster: str
    system_identifier: int
    segment_bytes: int
    data_directory: str
    store: str = ""
    ns: str = ""
    config: str = ""
    state_dir: str = ""
    keyfile: str = ""
    level: int = 1
    on_conflict: str = "new-generation"
    pause_s_first: float = 4.0
    pause_s_max: float = 300.0
    base_command: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The text of `archive.json`; the system identifier is text, numbers are too small."""
        fields: dict[str, Any] = {"format": _FORMAT, **self._asdict()}
        fields["system_identifier"] = str(self.system_identifier)
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, data: bytes, what: str) -> Self:
        """Read `archive.json` (DamagedData)."""
        try:
            fields = json.loads(data)
            if fields.pop("format") != _FORMAT:
                raise DamagedData(what, "its format is not one this version knows")
            fields["system_identifier"] = int(fields["system_identifier"])
            fields["base_command"] = tuple(fields["base_command"])
            settings = cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DamagedData(what, "it is not what `wal init` wrote") from error
        if not is_segment_size(settings.segment_bytes):
            raise DamagedData(what, f"{settings.segment_bytes} bytes are no size of a segment")
        return settings


class Generation:
    """One consistent history inside a stage.

    Attributes:
        name: the second in which it began, as text.
        path: its directory.
    """

    def __init__(self, stage_path: str, name: str) -> None:
        self.name = name
        self.path = os.path.join(stage_path, name)

    @property
    def time_s(self) -> int:
        return int(self.name)

    @property
    def wal_path(self) -> str:
        return os.path.join(self.path, "pg_wal")

    @property
    def carried_path(self) -> str:
        return os.path.join(self.path, "carried")

    def staged_path(self, name: str) -> str:
        """Where the WAL file `name` lies while the stage has it."""
        return os.path.join(self.path, "pg_wal", name + SUFFIX)

    def is_staged(self, name: str) -> bool:
        return os.path.exists(self.staged_path(name))

    def carried_digest(self, name: str) -> str | None:
        """SHA-256 in hex of a file that went to the store from here; None when none did."""
        try:
            return os.readlink(os.path.join(self.carried_path, name))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return None
            raise

    @property
    def went_back(self) -> bool:
        """Whether it began because time went back: then there was a history before."""
        return os.path.lexists(os.path.join(self.path, BEGAN_NAME))

    def is_before(self, name: WalName) -> bool:
        """Whether a segment is older than what is known of this history.

        It began when time went back to a later one, or its markers down there were forgotten.
        """
        for link in (BEGAN_NAME, _forgotten_name(name.timeline)):
            try:
                first = parse_wal_name(os.readlink(os.path.join(self.path, link)))
            except FileNotFoundError:
                continue
            is_segment = name.kind is first.kind is WalKind.SEGMENT
            earlier = (name.high, name.low) < (first.high, first.low)
            if is_segment and name.timeline == first.timeline and earlier:
                return True
        return False

    def forget_before(self, timeline: int, name: str) -> None:
        """Note that segments of a timeline before `name` were carried (OSError)."""
        link = os.path.join(self.path, _forgotten_name(timeline))
        with suppress(FileNotFoundError):  # of an attempt that was cut off
            files.unlink(link + "~")
        os.symlink(name, link + "~")
        files.rename(link + "~", link)
        files.fsync_directory(self.path)

    def holds(self, name: str) -> bool:
        """Whether the WAL file is safe: on the stage's disk, or carried to the store."""
        return self.is_staged(name) or self.carried_digest(name) is not None

    def staged_names(self) -> list[str]:
        """The WAL files on the stage, sorted by name (OSError)."""
        with files.scanned(self.wal_path) as entries:
            return sorted(
                entry.name.removesuffix(SUFFIX)
                for entry in entries
                if entry.name.endswith(SUFFIX) and not entry.name.startswith(".")
            )


class WalStage:
    """An open stage; close it after use.

    Attributes:
        path: absolute.
        settings: what `archive.json` says.
        requests: who works, and what is owed.
    """

    def __init__(self, path: str, settings: StageSettings, requests: RequestFlags) -> None:
        self.path = path
        self.settings = settings
        self.requests = requests

    @classmethod
    def open_to_read(cls, path: str) -> Self:
        """Open a stage for looking only: read access is enough (NotFound, HoldfastError)."""
        path = os.path.abspath(path)
        settings = read_settings(path)
        with files.explained(f"opening the WAL stage {path}"):
            requests = RequestFlags.open_to_watch(os.path.join(path, REQUESTS_NAME))
        return cls(path, settings, requests)

    @classmethod
    def open(cls, path: str, *, requests_fd: int | None = None) -> Self:
        """Open a stage (NotFound, DamagedData, HoldfastError).

        `requests_fd`: the request file, open with its locks, inherited from another process.
        """
        path = os.path.abspath(path)
        settings = read_settings(path)
        if requests_fd is not None:
            return cls(path, settings, RequestFlags(requests_fd))
        with files.explained(f"opening the WAL stage {path}"):
            requests = RequestFlags.open(os.path.join(path, REQUESTS_NAME), mode=0o600)
        return cls(path, settings, requests)

    def close(self) -> None:
        self.requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # Generations ----------------------------------------------------------------------------------

    def current(self) -> Generation | None:
        """The generation new files belong to; None before the first file (HoldfastError)."""
        link = os.path.join(self.path, CURRENT_NAME)
        try:
            name = os.readlink(link)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.as_holdfast_error(error, f"reading {link}") from error
        if not _is_generation(name):
            raise DamagedData(link, f"it leads to {name[:40]!r}, which is no generation")
        return Generation(self.path, name)

    def generations(self) -> list[Generation]:
        """All of them, oldest first (OSError)."""
        with files.scanned(self.path) as entries:
            names = [entry.name for entry in entries if _is_generation(entry.name)]
        return [Generation(self.path, name) for name in sorted(names, key=int)]

    def holds(self, name: str) -> bool:
        """Whether a WAL file of the current history is safe: staged, or carried to the store."""
        current = self.current()
        return current is not None and current.holds(name)

    def begin_generation(
        self, now_s: int, *, instead_of: Generation | None, first: str = ""
    ) -> Generation:
        """The new current generation, unless another process has just begun one.

        Everything is on the disk before `current` leads there.

        Args:
            now_s: the time; the name is later than that of every other generation.
            instead_of: what `current` was when the decision was made.
            first: the file with which time was found to have gone back.

        Raises:
            HoldfastError: the disk refused.
        """
        with self.requests.state_held(), files.explained("beginning a new generation of WAL"):
            found = self.current()
            if found is not None and (instead_of is None or found.name != instead_of.name):
                return found
            newest = max((one.time_s for one in self.generations()), default=0)
            generation = Generation(self.path, str(max(now_s, newest + 1)))
            files.make_directory(generation.path, mode=0o700)
            files.make_directory(generation.wal_path, mode=0o700)
            files.make_directory(generation.carried_path, mode=0o700)
            if first:
                os.symlink(first, os.path.join(generation.path, BEGAN_NAME))
            files.fsync_directory(generation.path)
            link = os.path.join(self.path, f".{CURRENT_NAME}-{generation.name}")
            os.symlink(generation.name, link)
            files.rename(link, os.path.join(self.path, CURRENT_NAME))
            files.fsync_directory(self.path)
        return generation


def _forgotten_name(timeline: int) -> str:
    return f"{FORGOTTEN_PREFIX}{timeline:08X}"


def _is_generation(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) in _GENERATION_DIGITS


def read_settings(path: str) -> StageSettings:
    """The settings of the stage in `path` (NotFound, DamagedData, HoldfastError)."""
    settings_path = os.path.join(path, SETTINGS_NAME)
    try:
        data = files.read_file(settings_path, size_max=_SETTINGS_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"{path} is no WAL stage", hint="make one with `holdfast wal init`"
        ) from error
    except OSError as error:
        raise files.as_holdfast_error(error, f"reading {settings_path}") from error
    return StageSettings.from_json(data, settings_path)


def make_stage(path: str, settings: StageSettings) -> None:
    """Make the directory of a stage and its settings.

    Raises:
        Refused: there is a stage of another cluster.
        HoldfastError: the disk refused.
    """
    path = os.path.abspath(path)
    try:
        known = read_settings(path)
    except NotFound:
        pass
    else:
        if known.system_identifier != settings.system_identifier:
            raise Refused(
                f"{path} is the stage of the cluster {known.system_identifier}",
                hint="give each cluster a stage of its own",
            )
    with files.explained(f"making the WAL stage {path}"):
        os.makedirs(os.path.join(path, "scripts"), mode=0o700, exist_ok=True)
        settings_path = os.path.join(path, SETTINGS_NAME)
        text = settings.to_json().encode()
        files.replace_file(settings_path, [text], mode=0o600, sync=True)
        RequestFlags.open(os.path.join(path, REQUESTS_NAME), mode=0o600).close()
        files.fsync_directory(path)


def stage_path(given: str | None, state_directory: str | None = None) -> str:
    """The stage a command means: what was said, HOLDFAST_WAL_STAGE, or the state directory's."""
    path = given or os.environ.get("HOLDFAST_WAL_STAGE")
    if path:
        return os.path.abspath(path)
    if state_directory is None:
        raise BadRequest(
            "which stage?", hint="add --stage DIR, or set HOLDFAST_WAL_STAGE; see `wal init`"
        )
    return os.path.join(os.path.abspath(state_directory), "wal")


def each_staged(stage: WalStage) -> Iterator[tuple[Generation, list[str]]]:
    """Every generation with the WAL files it still has on the stage (HoldfastError)."""
    with files.explained(f"listing the WAL stage {stage.path}"):
        for generation in stage.generations():
            try:
                names = generation.staged_names()
            except FileNotFoundError:  # a crash between making the two directories
                continue
            yield generation, names
