"""What can be said of one store without changing it: file system, configuration, keys."""

import os
from dataclasses import dataclass, field

from holdfast.config.stores import KEEP_NAMES, StoreSettings
from holdfast.datastore import key_files
from holdfast.errors import HoldfastError
from holdfast_tui.reader import Reader

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph", "9p"})


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A key file.

    Attributes:
        fingerprint: of the key; empty when it does not say.
        problem: why it cannot be read; empty when it can.
    """

    path: str
    fingerprint: str = ""
    kdf: str = ""
    hint: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Detail:
    """Of one store, for threads to make."""

    settings: StoreSettings
    file_system: str
    is_network: bool
    mount: str
    options: str
    keys: tuple[KeyFacts, ...] = ()
    keep: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)


def detail_of(reader: Reader, name: str) -> Detail:
    """Read everything about a store but its snapshots (HoldfastError)."""
    settings = reader.settings_of(name)
    mount, kind, options = mount_of(settings.path)
    paths = [path for path in (reader.options.keyfile, settings.keyfile) if path]
    keep = settings.keep
    notes = []
    if "noatime" in options.split(","):
        notes.append("mounted with noatime: gc sets access times itself, that is fine")
    if kind in _NETWORK:
        notes.append("a network file system: slower, and watched by looking every few seconds")
    return Detail(
        settings=settings,
        file_system=kind,
        is_network=kind in _NETWORK,
        mount=mount,
        options=options,
        keys=tuple(key_facts(path) for path in dict.fromkeys(paths)),
        keep=tuple(
            (keep_name, count)
            for keep_name in KEEP_NAMES
            if (count := getattr(keep, keep_name)) is not None
        ),
        notes=tuple(notes),
    )


def key_facts(path: str) -> KeyFacts:
    """What a key file says of itself."""
    try:
        found = key_files.load(path)
    except HoldfastError as error:
        return KeyFacts(path, problem=str(error))
    return KeyFacts(path, found.fingerprint or "", found.kdf_name.value, found.hint or "")


def mount_of(path: str) -> tuple[str, str, str]:
    """Mount point, file system and options of where a path is, or would be."""
    there = os.path.realpath(path)
    best = ("/", "unknown", "")
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                words = line.split()
                if len(words) < 4:  # noqa: PLR2004  # device, place, kind, options
                    continue
                place = words[1].replace("\\040", " ")
                inside = there == place or there.startswith(place.rstrip("/") + "/")
                if inside and len(place) >= len(best[0]):
                    best = (place, words[2], words[3])
    except OSError:
        pass
    return best


def is_store(path: str) -> bool:
    """Whether a directory is a store already."""
    return os.path.isdir(os.path.join(path, ".chunks"))


def stores_near(paths: tuple[str, ...]) -> list[str]:
    """Stores at these paths, or one level below them."""
    found = []
    for path in paths:
        if is_store(path):
            found.append(path)
            continue
        try:
            with os.scandir(path) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir())
        except OSError:
            continue
        found += [
            os.path.join(path, name) for name in names[:500] if is_store(os.path.join(path, name))
        ]
    return found
