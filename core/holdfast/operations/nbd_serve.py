"""Serve an image archive of a snapshot to NBD clients until stopped."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from holdfast.block.nbd_export import Export, allocation
from holdfast.block.nbd_protocol import BASE_ALLOCATION
from holdfast.block.nbd_server import NbdServer
from holdfast.block.nbd_uri import server_tls_context
from holdfast.block.node import Access, FileNode
from holdfast.block.snapshot_node import OverlayNode, SnapshotNode
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.fixed_index import FixedIndex
from holdfast.datastore.image_writer import CHUNK_BYTES
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.reader import ChunkReader, StreamReader
from holdfast.datastore.store import Datastore
from holdfast.errors import BadRequest, NotFound
from holdfast.host import files
from holdfast.ids import SnapshotId

_CACHE_CHUNKS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRequest:
    """What to serve, where.

    Attributes:
        archive: name of the image, such as `drive-vd0.img`.
        socket_path: absolute path of a unix socket, or empty for TCP.
        port: 0 for any free one; loopback unless `host` says otherwise.
        overlay: a new sparse file that takes writes; empty to serve read-only.
        certificates: directory of TLS files, empty for no TLS.
    """

    snapshot: SnapshotId
    archive: str
    socket_path: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    overlay: str = ""
    certificates: str = ""


def serve_snapshot(
    store: Datastore,
    request: ServeRequest,
    key: EncryptionKey | None,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is told the address as an NBD URI.

    Raises:
        NotFound: no such archive. BadRequest: it is no image, or the overlay exists.
        HoldfastError: the address cannot be used.
    """
    with ExitStack() as held, files.explained("serving the image"):
        asyncio.run(_serve(store, request, key, ready, held))


async def _serve(
    store: Datastore,
    request: ServeRequest,
    key: EncryptionKey | None,
    ready: Callable[[str], None],
    held: ExitStack,
) -> None:
    export = _export(store, request, key, held)
    tls = server_tls_context(request.certificates) if request.certificates else None
    server = NbdServer({export.name: export}, tls=tls)
    scheme = "nbds" if tls is not None else "nbd"
    if request.socket_path:
        await server.start_unix(request.socket_path)
        uri = f"{scheme}+unix:///{export.name}?socket={request.socket_path}"
    else:
        port = await server.start_tcp(request.host, request.port)
        uri = f"{scheme}://{request.host}:{port}/{export.name}"
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        ready(uri)
        await stopped.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await server.stop()


def _export(
    store: Datastore, request: ServeRequest, key: EncryptionKey | None, held: ExitStack
) -> Export:
    name = request.archive.removesuffix(".fidx")
    known = {entry.filename for entry in store.manifest(request.snapshot).files}
    if f"{name}.fidx" not in known:
        images = sorted(f.removesuffix(".fidx") for f in known if f.endswith(".fidx"))
        listed = ", ".join(images) or "none"
        raise NotFound(f"{request.snapshot} has no image {name}; its images: {listed}")
    index = store.open_index(request.snapshot, f"{name}.fidx", key=key)
    if not isinstance(index, FixedIndex) or index.chunk_bytes != CHUNK_BYTES:
        raise BadRequest(f"{name} is not an image in chunks of {CHUNK_BYTES} bytes")
    chunks = ChunkReader(ChunkStore.of(store), key)
    reader = held.enter_context(StreamReader(index, chunks, cache_chunks=_CACHE_CHUNKS))
    node = SnapshotNode(reader, key)
    held.callback(node.close)
    description = str(request.snapshot)
    if not request.overlay:
        export = Export(name=name, node=node, description=description)
        export.contexts[BASE_ALLOCATION] = allocation(node)
        return export
    overlay = _new_overlay(request.overlay, node.size_bytes, held)
    return Export.of(name, OverlayNode(node, overlay), description=description)


def _new_overlay(path: str, size_bytes: int, held: ExitStack) -> FileNode:
    """A sparse file that goes when the server goes."""
    try:
        fd = files.create(path, mode=0o600)
    except FileExistsError:
        raise BadRequest(f"the overlay {path} exists; name a new file") from None

    def remove() -> None:
        with suppress(FileNotFoundError):
            files.unlink(path)

    held.callback(remove)
    try:
        os.truncate(fd, size_bytes)
    finally:
        os.close(fd)
    node = FileNode.open(path, Access.READ_WRITE)
    held.callback(node.close)
    return node
