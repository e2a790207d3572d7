"""`holdfast nbd`: a backup as a network block device."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from holdfast.block.job_policy import BitmapMode
from holdfast.block.live_backup import CBW_TIMEOUT_S, WORKERS
from holdfast.cli import key_source, selection
from holdfast.cli.console import Console
from holdfast.config.workers import parse_size
from holdfast.datastore.manifest import CryptMode
from holdfast.datastore.session import SessionSettings
from holdfast.errors import EXIT_OK
from holdfast.ids import BackupType, GroupId
from holdfast.operations.image_server import ImageServerRequest, ask_for_backup, serve_image
from holdfast.operations.nbd_serve import ServeRequest, serve_snapshot


def add_arguments(parser: ArgumentParser) -> None:
    """One verb each."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="serve an image of a snapshot until stopped")
    serve.add_argument("snapshot", metavar="SNAPSHOT", help="TYPE/ID/TIME, or TYPE/ID")
    serve.add_argument("archive", metavar="ARCHIVE", help="such as drive-vd0.img")
    serve.add_argument("--socket", default="", metavar="PATH", help="a unix socket")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument("--port", type=int, default=0, help="TCP port; 0 for any free one")
    serve.add_argument(
        "--overlay", default="", metavar="FILE", help="take writes into FILE, which goes at the end"
    )
    serve.add_argument(
        "--tls-certificates", default="", metavar="DIR", help="server-cert.pem, server-key.pem"
    )

    export = verbs.add_parser("export", help="serve an image file and track what guests write")
    export.add_argument("image", metavar="IMAGE", help="a raw file or block device")
    export.add_argument("--socket", required=True, metavar="PATH", help="a unix socket")
    export.add_argument("--id", required=True, metavar="ID", help="backups are called vm/ID")
    export.add_argument(
        "--bitmap-mode",
        choices=[mode.value for mode in BitmapMode],
        default=BitmapMode.ALWAYS.value,
        help="what a failed backup leaves to the next one",
    )
    export.add_argument("--fleecing-dir", default="", metavar="DIR", help="for old data")
    export.add_argument("--fleecing-limit", default="", metavar="SIZE", help="space it may take")
    export.add_argument("--min-cluster-size", default="", metavar="SIZE", help="unit of saving")
    export.add_argument(
        "--cbw-timeout", type=float, default=CBW_TIMEOUT_S, metavar="SECONDS", help="default 45"
    )
    export.add_argument(
        "--max-workers", type=int, default=WORKERS, metavar="N", help="chunks read at a time"
    )
    export.add_argument("--max-chunk", default="", metavar="SIZE", help="most that is read at once")
    backup = verbs.add_parser("backup", help="back up an image that `nbd export` serves")
    backup.add_argument("socket", metavar="SOCKET", help="the one given to `nbd export`")


def run(args: Namespace, console: Console) -> int:
    """Do what the verb says."""
    return {"serve": _serve, "export": _export, "backup": _backup}[args.verb](args, console)


def _ready(args: Namespace, console: Console) -> Callable[[str], None]:
    def ready(uri: str) -> None:
        if args.json:
            console.document({"uri": uri})
        else:
            console.data(uri)
        console.flush()

    return ready


def _export(args: Namespace, console: Console) -> int:
    store, key = selection.open_to_write(args), key_source.load_key(args)
    mode = CryptMode.NONE if key is None else CryptMode.ENCRYPT
    request = ImageServerRequest(
        image=os.path.abspath(args.image),
        socket_path=os.path.abspath(args.socket),
        group=GroupId(BackupType.VM, args.id, selection.namespace(args)),
        settings=SessionSettings(key=key, crypt_mode=mode),
        mode=BitmapMode(args.bitmap_mode),
        fleecing_dir=os.path.abspath(args.fleecing_dir) if args.fleecing_dir else "",
        fleecing_bytes_max=parse_size(args.fleecing_limit) if args.fleecing_limit else 0,
        min_cluster_bytes=parse_size(args.min_cluster_size) if args.min_cluster_size else 0,
        cbw_timeout_s=args.cbw_timeout,
        workers=args.max_workers,
        max_chunk_bytes=parse_size(args.max_chunk) if args.max_chunk else 0,
    )
    serve_image(store, request, _ready(args, console))
    return EXIT_OK


def _backup(args: Namespace, console: Console) -> int:
    answer = ask_for_backup(os.path.abspath(args.socket), console.remark)
    if args.json:
        console.document(answer)
        return EXIT_OK
    console.data(answer["snapshot"])
    reason = answer["full_reason"]
    why = f", all of it because {reason}" if reason else ""
    console.remark(f"read {answer['read_bytes']} of {answer['size']} bytes{why}")
    return EXIT_OK


def _serve(args: Namespace, console: Console) -> int:
    store = selection.open_to_read(args)
    request = ServeRequest(
        snapshot=selection.snapshot(store, args, args.snapshot),
        archive=args.archive,
        socket_path=os.path.abspath(args.socket) if args.socket else "",
        host=args.host,
        port=args.port,
        overlay=args.overlay,
        certificates=args.tls_certificates,
    )

    serve_snapshot(store, request, key_source.load_key(args), _ready(args, console))
    return EXIT_OK
