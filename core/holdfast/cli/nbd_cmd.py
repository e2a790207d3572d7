"""`holdfast nbd`: a backup as a network block device."""

import os
from argparse import ArgumentParser, Namespace

from holdfast.cli import key_source, selection
from holdfast.cli.console import Console
from holdfast.errors import EXIT_OK
from holdfast.operations.nbd_serve import ServeRequest, serve_snapshot


def add_arguments(parser: ArgumentParser) -> None:
    """`serve` so far."""
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


def run(args: Namespace, console: Console) -> int:
    """Serve until SIGINT or SIGTERM."""
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

    def ready(uri: str) -> None:
        if args.json:
            console.document({"uri": uri})
        else:
            console.data(uri)
        console.flush()

    serve_snapshot(store, request, key_source.load_key(args), ready)
    return EXIT_OK
