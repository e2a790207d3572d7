"""Small stores made in no time, and snapshots in them."""

from pathlib import Path

from holdfast.datastore.options import StoreOptions
from holdfast.datastore.session import BackupSession, SessionSettings
from holdfast.datastore.store import Access, Datastore
from holdfast.ids import GroupId, SnapshotId

GROUP = GroupId.parse("host/web")


def small_store(
    base: Path, *, access: Access = Access.READ_WRITE, options: StoreOptions | None = None
) -> Datastore:
    """An empty store, or the one that is there, without the 65,536 prefix directories."""
    (base / ".chunks").mkdir(parents=True, exist_ok=True)
    (base / ".lock").touch()
    return Datastore.open(str(base), access, options=options or StoreOptions())


def back_up(
    store: Datastore,
    contents: dict[str, bytes],
    *,
    time_s: int,
    group: GroupId = GROUP,
    settings: SessionSettings | None = None,
) -> SnapshotId:
    """A finished snapshot with each of `contents` under its name (`x.didx`, `x.fidx`, `x.blob`)."""
    settings = settings or SessionSettings()
    with BackupSession.start(store, group, time_s, settings=settings) as session:
        add_contents(session, contents)
        return session.finish().snapshot


def add_contents(session: BackupSession, contents: dict[str, bytes]) -> None:
    """Write each of `contents` into the session, the way its suffix tells."""
    for name, data in contents.items():
        if name.endswith(".didx"):
            stream = session.stream(name)
            stream.write(data)
            stream.close()
        elif name.endswith(".fidx"):
            image = session.image(name, len(data))
            for number in range(image.chunk_count):
                start = number * image.chunk_bytes
                image.put(number, data[start : start + image.length_of(number)])
            image.close()
        else:
            session.blob(name, data)
