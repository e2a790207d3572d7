"""From global options to an open store, a namespace and snapshots."""

from argparse import Namespace as Arguments
from typing import TYPE_CHECKING

from holdfast.config.settings import Settings
from holdfast.config.stores import StoreSettings
from holdfast.errors import ReadOnlyViolation
from holdfast.ids import Namespace, SnapshotId

if TYPE_CHECKING:  # loaded when a store is opened
    from holdfast.datastore.store import Datastore


def store_settings(args: Arguments) -> StoreSettings:
    """What the configuration says of the chosen store (BadRequest, NotFound)."""
    return Settings.read(args.config).store(args.store)


def open_to_read(args: Arguments) -> "Datastore":
    """The chosen store; nothing at all is written below it.

    Raises:
        BadRequest: no store was named, or the configuration has a mistake.
        NotFound: there is no such store.
    """
    return _open(store_settings(args), is_written=False)


def open_to_write(args: Arguments) -> "Datastore":
    """The chosen store for a command that changes it (ReadOnlyViolation, see open_to_read)."""
    settings = store_settings(args)
    if args.read_only:
        raise ReadOnlyViolation(
            "this command changes the store, and read-only was asked for",
            hint="leave out --read-only, or unset HOLDFAST_READ_ONLY",
        )
    if settings.is_read_only:
        raise ReadOnlyViolation(
            f"the store {settings.name!r} is configured as read-only",
            hint=f"remove read-only from [stores.{settings.name}] in {args.config}",
        )
    return _open(settings, is_written=True)


def _open(settings: StoreSettings, *, is_written: bool) -> "Datastore":
    from holdfast.datastore.store import Access, Datastore

    access = Access.READ_WRITE if is_written else Access.READ_ONLY
    return Datastore.open(settings.path, access, name=settings.name, options=settings.options)


def namespace(args: Arguments) -> Namespace:
    """The namespace of --ns, the root one by default (BadRequest)."""
    return Namespace.parse(args.ns or "")


def snapshot(store: "Datastore", args: Arguments, text: str) -> SnapshotId:
    """The snapshot called `text` in the chosen namespace (BadRequest, NotFound)."""
    from holdfast.operations import snapshots

    return snapshots.find_snapshot(store, namespace(args), text)
