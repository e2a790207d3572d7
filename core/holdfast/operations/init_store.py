"""Make a store, or take over one that exists, and remember it in the configuration."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.config import edit
from holdfast.config.settings import Settings
from holdfast.config.stores import StoreSettings
from holdfast.config.toml_source import Section
from holdfast.datastore.store import Access, Datastore
from holdfast.errors import BadRequest
from holdfast.ids import is_safe_id
from holdfast.operations.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class InitRequest:
    """What is wanted.

    Attributes:
        path: the store's directory.
        name: what to call it; None takes the directory's name.
        config: the configuration file that will know it.
        options: further keys of its table, such as `{"verify-new": True}`.
        adopts: the store is there already and is only to be remembered.
    """

    path: str
    config: str
    name: str | None = None
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    adopts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InitOutcome:
    """The new store."""

    name: str
    path: str


def init_store(request: InitRequest, progress: Progress) -> InitOutcome:
    """Make it.

    Raises:
        BadRequest: the name or the place is taken.
        NotFound: a store was to be adopted and there is none.
        HoldfastError: the disk refused.
    """
    path = os.path.abspath(os.path.expanduser(request.path))
    settings = Settings.read(request.config)
    name = _free_name(request.name, path, settings)
    for other in settings.stores.values():
        if os.path.realpath(other.path) == os.path.realpath(path):
            raise BadRequest(f"{path} is already the store {other.name!r} in {request.config}")
    table = {"path": path, **request.options}
    StoreSettings.parse(Section(settings.source, ("stores", name), table))  # before anything exists
    progress.phase("init")
    if request.adopts:
        Datastore.open(path, Access.READ_ONLY, name=name)
    else:
        Datastore.create(path, name=name)
    edit.add_store(request.config, name, table)
    return InitOutcome(name=name, path=path)


def _free_name(wanted: str | None, path: str, settings: Settings) -> str:
    name = wanted or os.path.basename(path)
    if not is_safe_id(name):
        raise BadRequest(
            f"{name!r} cannot name a store: use letters, digits, . _ -", hint="give it a --name"
        )
    if name in settings.stores:
        taken = settings.stores[name].path
        raise BadRequest(
            f"{settings.path} already has a store {name!r}, at {taken}", hint="give another --name"
        )
    return name
