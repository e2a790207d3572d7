"""Which cluster a `pg` verb means, and what is known of it."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.cli import key_source, selection
from holdfast.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from holdfast.datastore.store import Datastore
    from holdfast.operations.pg_view import ClusterStatus
    from holdfast.postgres.wal_stage import WalStage


def add_arguments(parser: ArgumentParser) -> None:
    """`--cluster` or `--stage`."""
    parser.add_argument("--cluster", metavar="NAME", help="what its backups are called")
    parser.add_argument("--stage", metavar="DIR", help="the cluster of this WAL archive")


@contextmanager
def opened_stage(args: Namespace) -> "Iterator[WalStage | None]":
    """The stage of the command, filled into `args`; None where only a cluster is named."""
    from holdfast.cli.wal_worker import fill_in
    from holdfast.postgres.wal_stage import WalStage, stage_path

    try:
        stage = WalStage.open_to_read(stage_path(args.stage, args.state_dir))
    except NotFound:
        if args.stage or not args.cluster:
            raise BadRequest("which cluster?", hint="add --cluster NAME or --stage DIR") from None
        yield None
        return
    with stage:
        if args.cluster not in (None, stage.settings.cluster):
            yield None
            return
        args.cluster = stage.settings.cluster
        fill_in(args, stage.settings)
        yield stage


def status_of(args: Namespace, store: "Datastore", stage: "WalStage | None") -> "ClusterStatus":
    """A look at the cluster (NotFound, HoldfastError)."""
    from holdfast.operations.pg_status import StatusRequest, look

    cache = os.path.join(args.state_dir, "wal-catalogues", f"{store.name}-{args.cluster}")
    return look(
        StatusRequest(
            store=store,
            cluster=args.cluster,
            ns=selection.namespace(args),
            key=key_source.load_key(args),
            stage=stage,
            cache_path=None if args.read_only else cache,
        )
    )
