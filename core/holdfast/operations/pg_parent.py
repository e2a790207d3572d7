"""What a differential has to know of the backup it is relative to."""

from holdfast.archive.open import OpenSnapshot
from holdfast.operations.pg_chain import BlockMap
from holdfast.operations.pg_tree import Parent
from holdfast.postgres.backup_record import FILE_LIST
from holdfast.postgres.file_list import Form, read_list


def open_parent(snapshot: OpenSnapshot, *, since_lsn: int | None) -> Parent:
    """The list and the digests of a base backup that stays open (DamagedData, KeyProblem)."""
    lines = read_list(snapshot.stream(FILE_LIST).pieces())
    files = {line.path: line for line in lines if line.form is not Form.DIRECTORY}
    return Parent(files=files, digests=BlockMap(snapshot).digests, since_lsn=since_lsn)
