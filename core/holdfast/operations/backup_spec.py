"""What a person means by `root.pxar:/`, `disk.img:/dev/vda`, `fstab.conf:/etc/fstab` or `/home`."""

import os
import re
import stat
from dataclasses import dataclass
from enum import Enum
from typing import Final

from holdfast.errors import BadRequest, NotFound
from holdfast.host.files import as_holdfast_error
from holdfast.units import MIB

_STEM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]*")
_ODD: Final = re.compile(r"[^A-Za-z0-9_\-]+")
_NAMED: Final = re.compile(r"([^/:]+\.(?:pxar|img|conf|log)):(.+)", re.DOTALL)
_IMAGE_SUFFIXES: Final = (".img", ".raw", ".iso")
BLOB_BYTES_MAX: Final = 16 * MIB


class SpecKind(Enum):
    """By the suffix of the archive's name."""

    TREE = ".pxar"
    IMAGE = ".img"
    BLOB = ".conf"


@dataclass(frozen=True, slots=True)
class Spec:
    """One archive to make.

    Attributes:
        name: of the archive, such as `root.pxar`.
        path: what it is made from.
    """

    name: str
    kind: SpecKind
    path: str

    @classmethod
    def parse(cls, text: str) -> "Spec":
        """Read NAME.pxar:DIR, NAME.img:FILE, NAME.conf:FILE, or a path alone.

        Raises:
            BadRequest: no such form, or a name that an archive cannot have.
            NotFound: a path alone that does not exist.
        """
        match = _NAMED.fullmatch(text)
        if match is None:
            return cls._of_path(text)
        name, path = match.groups()
        stem, suffix = os.path.splitext(name)
        if _STEM.fullmatch(stem) is None:
            raise BadRequest(f"{name!r} cannot name an archive: use letters, digits, - and _")
        kind = SpecKind.BLOB if suffix == ".log" else SpecKind(suffix)
        return cls(name, kind, path)

    @classmethod
    def _of_path(cls, path: str) -> "Spec":
        if not path:
            raise BadRequest("an empty path cannot be backed up")
        try:
            info = os.stat(path)
        except FileNotFoundError:
            hint = "or name the archive: NAME.pxar:DIR, NAME.img:FILE, NAME.conf:FILE"
            raise NotFound(f"{path} does not exist", hint=hint) from None
        except OSError as error:
            raise as_holdfast_error(error, f"looking at {path}") from error
        full = os.path.abspath(path)
        base = os.path.basename(full) or "root"
        stem, suffix = os.path.splitext(base)
        if stat.S_ISDIR(info.st_mode):
            return cls(f"{_safe(base)}.pxar", SpecKind.TREE, path)
        if stat.S_ISBLK(info.st_mode):
            return cls(f"{_safe(base)}.img", SpecKind.IMAGE, path)
        if stat.S_ISREG(info.st_mode):
            if suffix in _IMAGE_SUFFIXES or info.st_size > BLOB_BYTES_MAX:
                return cls(f"{_safe(stem)}.img", SpecKind.IMAGE, path)
            return cls(f"{_safe(stem or base)}.conf", SpecKind.BLOB, path)
        raise BadRequest(f"{path} is neither a directory, a file nor a block device")


def _safe(name: str) -> str:
    """`name` as it may name an archive."""
    return _ODD.sub("_", name).strip("_-") or "data"


def parse_specs(texts: tuple[str, ...]) -> tuple[Spec, ...]:
    """All of a command line (BadRequest when two would have the same name; see Spec.parse)."""
    specs = tuple(Spec.parse(text) for text in texts)
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(
                f"two archives would be called {name}", hint="name them, such as other.pxar:DIR"
            )
    if not specs:
        raise BadRequest("nothing to back up was named")
    return specs
