"""The first steps as values: what was typed on each page, what is wrong with it, which commands it is."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.datastore.key_files import PASSPHRASE_BYTES_MIN
from holdfast.errors import BadRequest
from holdfast.ids import is_safe_id
from holdfast.jobs.calendar import CalendarEvent

_NUMBERS: Final = re.compile(r"\d{1,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One line to type.

    Attributes:
        name: in the values, and in what is kept.
        label: before the line.
        value: proposed.
        about: shown while it is being typed.
        is_secret: neither shown nor kept.
    """

    name: str
    label: str
    value: str
    about: str
    is_secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of lines."""

    name: str
    title: str
    intro: tuple[str, ...]
    fields: tuple[Field, ...] = ()


CHECK: Final = Page(
    name="check",
    title="This terminal and host",
    intro=("What holdfast finds here. Nothing has to be changed to go on.",),
)
KEY: Final = Page(
    name="key",
    title="Encryption",
    intro=(
        "With a key everything is encrypted before it is stored. Without",
        "it nothing comes back: keep a copy (`holdfast key paper FILE`).",
    ),
    fields=(
        Field(
            name="keyfile",
            label="key file",
            value="",
            about="empty: none; a new path makes a key there",
        ),
        Field(
            name="passphrase",
            label="passphrase",
            value="",
            about="of a new key; empty: none. Schedules then want HOLDFAST_PASSWORD_FILE",
            is_secret=True,
        ),
        Field(
            name="again",
            label="once more",
            value="",
            about="the same passphrase, so that no slip locks the backups",
            is_secret=True,
        ),
    ),
)
SUMMARY: Final = Page(name="summary", title="These commands will run", intro=())


def store_page(home: str) -> Page:
    """Where the store is."""
    path = "/srv/backup" if os.geteuid() == 0 else os.path.join(home, "backup")
    return Page(
        name="store",
        title="The store",
        intro=(
            "A directory on another disk than the one you back up. A store that",
            "is there already, of Proxmox Backup Server too, is only remembered.",
        ),
        fields=(
            Field(name="path", label="path", value=path, about="new or empty, or a store"),
            Field(
                name="name",
                label="name",
                value="",
                about="what --store calls it; empty: as the path",
            ),
        ),
    )


def backup_page() -> Page:
    """What is backed up, when, and for how long."""
    return Page(
        name="backup",
        title="First backup, schedule, retention",
        intro=("One job does it all: back up, verify, forget what is too old.",),
        fields=(
            Field(
                name="sources",
                label="what",
                value="etc.pxar:/etc",
                about="such as etc.pxar:/etc disk.img:/dev/vg/data; empty: nothing yet",
            ),
            Field(
                name="schedule", label="when", value="21:00", about="such as 21:00, mon..fri 2:30"
            ),
            Field(
                name="keep",
                label="keep",
                value="7 4 6",
                about="daily, weekly and monthly snapshots; prune forgets the others",
            ),
            Field(
                name="verify",
                label="verify",
                value="last",
                about="after each backup: last, group, never",
            ),
            Field(
                name="now",
                label="run now",
                value="yes",
                about="yes: the first backup begins at once, as a task",
            ),
        ),
    )


def name_of(values: Mapping[str, str]) -> str:
    """What the store is called."""
    return values.get("name", "").strip() or os.path.basename(values.get("path", "").rstrip("/"))


def problem(page: str, values: Mapping[str, str], *, taken: Sequence[str]) -> str:
    """What is wrong with a page; empty when it can be left. Reads nothing."""
    if page == "store":
        if not values["path"].startswith(("/", "~/")):
            return "the path begins with / or ~/"
        if not is_safe_id(name_of(values)):
            return f"{name_of(values)!r} cannot name a store: letters, digits, . _ -"
        if name_of(values) in taken:
            return f"there is a store called {name_of(values)!r} already: give another name"
    if page == "key":
        return _problem_of_key(values)
    if page == "backup" and values["sources"].strip():
        return _problem_of_job(values)
    return ""


def _problem_of_key(values: Mapping[str, str]) -> str:
    secret = os.fsencode(values["passphrase"])
    if values["passphrase"] != values["again"]:
        return "the two passphrases differ"
    if secret and not values["keyfile"].strip():
        return "a passphrase wants a key file"
    if 0 < len(secret) < PASSPHRASE_BYTES_MIN:
        return f"a passphrase has at least {PASSPHRASE_BYTES_MIN} bytes"
    return ""


def _problem_of_job(values: Mapping[str, str]) -> str:
    if values["schedule"].strip():
        try:
            CalendarEvent.parse(values["schedule"])
        except BadRequest as error:
            return str(error)
    words = values["keep"].split()
    if len(words) > 3 or not all(_NUMBERS.fullmatch(word) for word in words):  # noqa: PLR2004
        return "keep is up to three numbers: daily weekly monthly"
    if values["verify"].strip() not in ("last", "group", "never"):
        return "verify is last, group or never"
    return ""


def commands(values: Mapping[str, str], *, adopts: bool, makes_key: bool) -> list[tuple[str, ...]]:
    """The command lines of all pages, in order."""
    found: list[tuple[str, ...]] = []
    path, name = os.path.expanduser(values["path"]), name_of(values)
    keyfile = os.path.abspath(os.path.expanduser(key)) if (key := values["keyfile"].strip()) else ""
    if keyfile and makes_key:
        kdf = () if values.get("passphrase") else ("--kdf", "none")
        found.append(("key", "create", keyfile, *kdf))
    init = ["init", path, "--name", name]
    init += ["--adopt"] if adopts else []
    init += ["--keyfile", keyfile] if keyfile else []
    found.append(tuple(init))
    if sources := values.get("sources", "").split():
        found += _job(values, name, sources)
    return found


def _job(values: Mapping[str, str], store: str, sources: list[str]) -> list[tuple[str, ...]]:
    words = ["job", "add", f"{store}-backup", "--store", store, "--kind", "backup"]
    for source in sources:
        words += ["--source", source]
    if values["schedule"].strip():
        words += ["--schedule", values["schedule"].strip()]
    words += ["--verify", values["verify"].strip()]
    for kind, count in zip(("daily", "weekly", "monthly"), values["keep"].split(), strict=False):
        if int(count):
            words += [f"--keep-{kind}", count]
    found = [tuple(words)]
    if values["now"].strip().lower() in ("y", "yes"):
        found.append(("job", "run", f"{store}-backup", "--detach"))
    return found
