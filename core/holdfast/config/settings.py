"""The whole configuration, and which store a person means."""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.config import toml_source
from holdfast.config.stores import StoreSettings
from holdfast.config.toml_source import TomlSource
from holdfast.config.workers import WorkerSettings
from holdfast.errors import BadRequest, NotFound
from holdfast.ids import is_safe_id

if TYPE_CHECKING:
    from holdfast.config.jobs import JobSettings, NotifierSettings

# tables of other areas, read by those who know them
OTHER_TABLES = (
    "scheduler",
    "metrics",
    "postgres",
    "vms",
    "tui",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked configuration file.

    Attributes:
        source: the file, for the tables of other areas.
        stores: by name, in the file's order.
        workers: limits for long work.
        jobs, notifiers: by name, in the file's order.
    """

    source: TomlSource
    stores: dict[str, StoreSettings] = field(default_factory=dict)
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    jobs: "dict[str, JobSettings]" = field(default_factory=dict)
    notifiers: "dict[str, NotifierSettings]" = field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.source.path

    @classmethod
    def read(cls, path: str) -> "Settings":
        """Read `path`; no file means no stores (BadRequest with file and line)."""
        return cls.parse(toml_source.read(path))

    @classmethod
    def parse(cls, source: TomlSource) -> "Settings":
        root = source.root
        stores = [StoreSettings.parse(section) for section in root.tables("stores")]
        workers = WorkerSettings.parse(root.table("workers"))
        jobs: dict[str, JobSettings] = {}
        notifiers: dict[str, NotifierSettings] = {}
        if any([root.has("jobs"), root.has("notifications")]):  # both are keys we know
            from holdfast.config.jobs import parse_jobs  # calendars and all take long to load

            jobs, notifiers = parse_jobs(root, {store.name for store in stores})
        root.refuse_unknown(also=OTHER_TABLES)
        seen: dict[str, str] = {}
        for store in stores:
            if store.path in seen:
                source.complain(
                    ("stores", store.name, "path"),
                    f"{store.path} is already the store {seen[store.path]!r}",
                )
            seen[store.path] = store.name
        return cls(source, {store.name: store for store in stores}, workers, jobs, notifiers)

    def store(self, name_or_path: str | None) -> StoreSettings:
        """The store somebody means.

        Args:
            name_or_path: a name of the configuration, a directory, or None for the only one there.

        Raises:
            BadRequest: nothing was said and there is not exactly one store.
            NotFound: no such name.
        """
        if name_or_path is None:
            return self._only_store()
        if name_or_path in self.stores:
            return self.stores[name_or_path]
        if "/" in name_or_path or name_or_path in (".", "..") or os.path.isdir(name_or_path):
            return self._store_at(os.path.abspath(os.path.expanduser(name_or_path)))
        known = ", ".join(self.stores) or "none"
        raise NotFound(
            f"no store called {name_or_path!r}",
            hint=f"configured in {self.path}: {known}; a directory is written with a /",
        )

    def job(self, name: str) -> "JobSettings":
        """The configured job called `name` (NotFound)."""
        if name in self.jobs:
            return self.jobs[name]
        known = ", ".join(self.jobs) or "none"
        raise NotFound(f"no job called {name!r}", hint=f"configured in {self.path}: {known}")

    def _only_store(self) -> StoreSettings:
        if len(self.stores) == 1:
            return next(iter(self.stores.values()))
        if self.stores:
            raise BadRequest(
                "more than one store is configured", hint=f"add --store {'|'.join(self.stores)}"
            )
        default = default_store_path()
        if os.path.isdir(os.path.join(default, ".chunks")):
            return StoreSettings(name="default", path=default)
        raise BadRequest(
            "no store is configured", hint="make one with `holdfast init PATH`, or add --store PATH"
        )

    def _store_at(self, path: str) -> StoreSettings:
        for store in self.stores.values():
            if os.path.realpath(store.path) == os.path.realpath(path):
                return store
        name = os.path.basename(path)
        return StoreSettings(name=name if is_safe_id(name) else "store", path=path)


def default_store_path() -> str:
    """The user's own store, used when none is configured and it exists; `demo` makes it."""
    base = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(base):  # the XDG rule: relative values are ignored
        base = os.path.join(os.path.expanduser("~"), ".local/share")
    return os.path.join(base, "holdfast", "store")
