"""Restore less of an entry than the archive keeps.

For trees that come from strangers, go to another machine, or to a file system that cannot hold
everything. What is left out is left out of the entry before anything is compared or written, so
that restoring again with the same choice finds everything as it wants it.
"""

import enum
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from holdfast.archive.pxar import format as pxar
from holdfast.archive.pxar.items import Entry, Step

_SET_ID: Final = stat.S_ISUID | stat.S_ISGID


class Without(enum.Flag):
    """What a restore leaves out."""

    NOTHING = 0
    OWNER = enum.auto()  # everything belongs to whoever restores; set-id bits go, too
    SETID = enum.auto()  # set-user and set-group bits, and file capabilities
    DEVICES = enum.auto()  # block and character devices
    XATTRS = enum.auto()  # extended attributes, and file capabilities
    ACLS = enum.auto()
    FLAGS = enum.auto()  # "immutable", "append only" and the like


def reduced_steps(steps: Iterable[Step], without: Without) -> Iterator[Step]:
    """The decoder's steps with less in them."""
    for step in steps:
        yield step._replace(entry=reduced(step.entry, without))


def reduced(entry: Entry, without: Without) -> Entry:
    """The entry with less metadata."""
    metadata = entry.metadata
    if metadata is None:
        return entry
    info = metadata.stat
    mode = info.mode
    if without & (Without.OWNER | Without.SETID) and not stat.S_ISDIR(mode):
        mode &= ~_SET_ID
    if Without.ACLS in without and metadata.acl is not None:
        mode = _mode_without(metadata.acl, mode)
    no_acl, no_xattrs = Without.ACLS in without, Without.XATTRS in without
    return entry._replace(
        metadata=metadata._replace(
            stat=info._replace(mode=mode, flags=0 if Without.FLAGS in without else info.flags),
            xattrs=() if no_xattrs else metadata.xattrs,
            fcaps=None if no_xattrs or Without.SETID in without else metadata.fcaps,
            acl=None if no_acl else metadata.acl,
        )
    )


def _mode_without(acl: pxar.Acl, mode: int) -> int:
    """The mode's group bits are the list's mask: the owning group gets no more than it had."""
    if acl.group_obj is None:
        return mode
    return mode & ~stat.S_IRWXG | (mode & acl.group_obj << 3)
