"""Write an image archive of a snapshot to an NBD export, such as a disk of a running machine."""

from dataclasses import dataclass

from holdfast.block.nbd_client import NbdClient
from holdfast.block.nbd_uri import NbdAddress
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.keys import EncryptionKey, chunk_digest
from holdfast.datastore.reader import ChunkReader
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, HoldfastError
from holdfast.ids import SnapshotId
from holdfast.operations.progress import Progress


@dataclass(frozen=True, slots=True)
class NbdRestored:
    """What was written: bytes of data, and bytes that were made zero."""

    written_bytes: int
    zero_bytes: int


def restore_to_nbd(
    store: Datastore,
    snapshot: SnapshotId,
    archive: str,
    address: NbdAddress,
    *,
    key: EncryptionKey | None,
    progress: Progress,
) -> NbdRestored:
    """Overwrite an export with an image.

    Raises:
        BadRequest: the export is smaller than the image, or read-only.
        HoldfastError: the server or the store failed; the export holds a mixture then.
    """
    index = store.open_index(snapshot, f"{archive.removesuffix('.fidx')}.fidx", key=key)
    chunks = ChunkReader(ChunkStore.of(store), key)
    written = zero = 0
    progress.total(bytes=index.size_bytes)
    with NbdClient.connect(address) as client:
        if client.size_bytes < index.size_bytes:
            raise BadRequest(
                f"the export has {client.size_bytes} bytes, the image needs {index.size_bytes}"
            )
        try:
            for number in range(index.chunk_count):
                start, end = index.range_at(number)
                digest, size = index.digest_at(number), end - start
                if digest == _zero_digest(size, key):
                    client.write_zeroes(start, size)
                    zero += size
                else:
                    client.write(start, chunks.read(digest, size))
                    written += size
                progress.advance(bytes=size)
            client.flush()
        except OSError as error:
            raise HoldfastError(f"{error.strerror} while writing the NBD export") from error
    return NbdRestored(written, zero)


_ZERO_DIGESTS: dict[tuple[int, bytes], bytes] = {}


def _zero_digest(size: int, key: EncryptionKey | None) -> bytes:
    known = (size, key.id_key if key is not None else b"")
    if known not in _ZERO_DIGESTS:
        _ZERO_DIGESTS[known] = chunk_digest(bytes(size), key)
    return _ZERO_DIGESTS[known]
