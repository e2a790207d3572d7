"""The two files beside a group's snapshots: `owner` (one auth id and a newline) and `notes`."""

import os
import re
from typing import Final

from holdfast.datastore.layout import FILE_MODE, NOTES_NAME, OWNER_NAME
from holdfast.errors import BadRequest, DamagedData
from holdfast.host import files
from holdfast.ids import SAFE_ID, GroupId
from holdfast.units import MIB

NOTES_BYTES_MAX: Final = 1 * MIB
_OWNER_BYTES_MAX: Final = 4096
_AUTH_ID: Final = re.compile(
    rf"[^\s:/\x00-\x1f\x7f]+@(?:{SAFE_ID.pattern})(?:!(?:{SAFE_ID.pattern}))?"
)


def is_auth_id(text: str) -> bool:
    """Whether `text` is `NAME@REALM` or `NAME@REALM!TOKEN`."""
    return _AUTH_ID.fullmatch(text) is not None


def read_owner(base: str, group: GroupId) -> str:
    """Who may add to the group (FileNotFoundError, DamagedData)."""
    path = os.path.join(base, group.path, OWNER_NAME)
    data = files.read_file(path, size_max=_OWNER_BYTES_MAX)
    try:
        owner = data.decode().partition("\n")[0].rstrip()
    except UnicodeDecodeError:
        owner = ""
    if not is_auth_id(owner):
        raise DamagedData(f"the owner of {group}", "it names no user")
    return owner


def write_owner(base: str, group: GroupId, owner: str, owner_ids: tuple[int, int] | None) -> None:
    """Give the group to `owner` (BadRequest, OSError)."""
    if not is_auth_id(owner):
        raise BadRequest(f"{owner!r} is no user: write NAME@REALM or NAME@REALM!TOKEN")
    path = os.path.join(base, group.path, OWNER_NAME)
    files.replace_file(path, [f"{owner}\n".encode()], mode=FILE_MODE, owner=owner_ids)


def read_notes(base: str, group: GroupId) -> str:
    """Free text, empty when there is none (DamagedData, OSError)."""
    path = os.path.join(base, group.path, NOTES_NAME)
    try:
        data = files.read_file(path, size_max=NOTES_BYTES_MAX)
    except FileNotFoundError:
        return ""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DamagedData(f"the notes of {group}", "they are not UTF-8") from error


def write_notes(base: str, group: GroupId, text: str, owner_ids: tuple[int, int] | None) -> None:
    """Replace the notes; an empty text removes them (BadRequest, OSError)."""
    path = os.path.join(base, group.path, NOTES_NAME)
    data = encoded_text(text)
    if data:
        files.replace_file(path, [data], mode=FILE_MODE, owner=owner_ids)
        return
    try:
        files.unlink(path)
    except FileNotFoundError:
        return


def encoded_text(text: str) -> bytes:
    """UTF-8 of notes somebody typed (BadRequest when they cannot be kept)."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest("the notes hold a character that has no UTF-8 form") from error
    if len(data) > NOTES_BYTES_MAX:
        raise BadRequest(f"notes are at most {NOTES_BYTES_MAX} bytes long, not {len(data)}")
    return data
