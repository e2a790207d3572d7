"""`holdfast wal`: the WAL archive of a PostgreSQL cluster."""

import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final

from holdfast.cli.start import NOT_ARCHIVED
from holdfast.errors import EXIT_OK, BadRequest, Busy, HoldfastError

if TYPE_CHECKING:
    from holdfast.cli.console import Console
    from holdfast.operations.wal_get import Archive
    from holdfast.postgres.wal_stage import WalStage

_TIMEOUT_S_MAX: Final = 1e9
_ON_CONFLICT: Final = ("new-generation", "refuse")


def add_arguments(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    stage = ArgumentParser(add_help=False)
    stage.add_argument(
        "--stage", metavar="DIR", help="the stage beside the server (HOLDFAST_WAL_STAGE)"
    )
    init = verbs.add_parser("init", parents=[stage], help="make the stage of a cluster")
    init.add_argument("cluster", help="what backups of the cluster are called, such as pg-main")
    init.add_argument("--data", required=True, metavar="DIR", help="the server's data directory")
    init.add_argument("--level", type=int, default=1, choices=range(1, 20), metavar="1..19")
    init.add_argument("--on-conflict", choices=_ON_CONFLICT, default=_ON_CONFLICT[0])
    push = verbs.add_parser("push", parents=[stage], help="archive_command: take a file over")
    push.add_argument("path", help="the server's %%p")
    push.add_argument("--ready", action="store_true", help="take all others that wait, too")
    get = verbs.add_parser("get", parents=[stage], help="restore_command: give a file back")
    get.add_argument("name", help="the server's %%f")
    get.add_argument("target", help="the server's %%p")
    get.add_argument("--cluster", help="where there is no stage: what backups are called")
    get.add_argument("--generation", type=int, metavar="SECOND", help="which history")
    get.add_argument(
        "--allow-gap", action="store_true", help="let recovery end at a missing segment"
    )
    for name, text in (
        ("sync", "finish what is owed, if anything is"),
        ("force-sync", "carry WAL to the store and run the script now"),
        ("full-sync", "the same, and take a full base backup"),
    ):
        verbs.add_parser(name, parents=[stage], help=text)
    stream = verbs.add_parser(
        "stream", parents=[stage], help="receive WAL as it is written, until stopped"
    )
    stream.add_argument("--connection", metavar="CONNINFO", help="default: the local server's")
    stream.add_argument("--slot", default="holdfast", help="replication slot (default: holdfast)")
    wait = verbs.add_parser("wait", parents=[stage], help="wait until no sync runs")
    wait.add_argument("timeout", nargs="?", type=float, help="seconds; 0 only looks")


def run(args: Namespace, console: "Console") -> int:
    match args.verb:
        case "init":
            return _init(args, console)
        case "push":
            return _push(args)
        case "get":
            return _get(args, console)
        case "wait":
            return _wait(args)
        case "stream":
            return _stream(args, console)
        case _:
            return _sync(args, console)


def _init(args: Namespace, console: "Console") -> int:
    from holdfast.cli import selection
    from holdfast.host import files
    from holdfast.postgres.control_file import read_control
    from holdfast.postgres.wal_catalogue import wal_group
    from holdfast.postgres.wal_stage import StageSettings, make_stage, stage_path

    wal_group(args.cluster, selection.namespace(args))  # checks the name
    data = os.path.abspath(args.data)
    with files.explained(f"reading the control file of {data}"):
        control = read_control(data)
    store = selection.open_to_write(args)
    path = stage_path(args.stage, args.state_dir)
    make_stage(
        path,
        StageSettings(
            cluster=args.cluster,
            system_identifier=control.system_identifier,
            segment_bytes=control.wal_segment_bytes,
            data_directory=data,
            store=store.base,
            ns=args.ns or "",
            config=os.path.abspath(args.config),
            state_dir=os.path.abspath(args.state_dir),
            keyfile=os.path.abspath(args.keyfile) if args.keyfile else "",
            level=args.level,
            on_conflict=args.on_conflict,
        ),
    )
    _give_to_owner_of(data, path)
    command = f"holdfast wal push --stage {path} %p"
    console.remark(f"the stage {path} is ready; in postgresql.conf:")
    if args.json:
        console.document({"stage": path, "archive_command": command})
    else:
        console.data("archive_mode = on")
        console.data(f"archive_command = '{command}'")
    return EXIT_OK


def _give_to_owner_of(data: str, path: str) -> None:
    """The server's own user pushes: what root made for it has to be its own (HoldfastError)."""
    if os.geteuid() != 0:
        return
    from holdfast.host import files

    with files.explained(f"giving {path} to the owner of {data}"):
        owner = os.stat(data)
        for directory, _names, others in os.walk(path):
            for name in (directory, *(os.path.join(directory, other) for other in others)):
                os.chown(name, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _push(args: Namespace) -> int:
    from holdfast.postgres.wal_push import push

    push(_stage_path(args), args.path, takes_ready=args.ready)
    return EXIT_OK


def _get(args: Namespace, console: "Console") -> int:
    from holdfast.operations.wal_get import GetRequest, get

    stage = _stage_if_any(args)
    try:
        request = GetRequest(
            name=args.name,
            target=args.target,
            stage=stage,
            open_archive=lambda: _archive(args, stage),
            generation=args.generation,
            allows_gap=args.allow_gap,
        )
        if get(request):
            return EXIT_OK
    finally:
        if stage is not None:
            stage.close()
    console.remark(f"{args.name} is not in the archive")
    return NOT_ARCHIVED


def _archive(args: Namespace, stage: "WalStage | None") -> "Archive":
    """What the store has of the cluster that was named, or that the stage belongs to."""
    from holdfast.cli import key_source, selection
    from holdfast.cli.wal_worker import fill_in
    from holdfast.operations.wal_get import Archive
    from holdfast.postgres.wal_catalogue import WalCatalogue, wal_group

    cluster = args.cluster or (stage.settings.cluster if stage is not None else None)
    if cluster is None:
        raise BadRequest("which cluster?", hint="add --cluster NAME or --stage DIR")
    if stage is not None:
        fill_in(args, stage.settings)
    store = selection.open_to_read(args)
    key = key_source.load_key(args)
    group = wal_group(cluster, selection.namespace(args))
    cache = os.path.join(args.state_dir, "wal-catalogues", f"{store.name}-{cluster}")
    catalogue = WalCatalogue.load(
        store, group, key=key, cache_path=None if args.read_only else cache
    )
    return Archive(store, catalogue, key)


def _sync(args: Namespace, console: "Console") -> int:
    from holdfast.cli.wal_worker import sync_in_foreground
    from holdfast.postgres.wal_stage import ARCHIVE, SNAPSHOT, WalStage

    flags = {"sync": 0, "force-sync": ARCHIVE, "full-sync": ARCHIVE | SNAPSHOT}[args.verb]
    with WalStage.open(_stage_path(args)) as stage:
        if not sync_in_foreground(stage, args, flags, console):
            console.remark("a sync runs already and has been told; waiting for it")
            stage.requests.wait()
    return EXIT_OK


def _wait(args: Namespace) -> int:
    from holdfast.jobs.request_flags import RequestFlags
    from holdfast.postgres.wal_stage import LOG_NAME, REQUESTS_NAME, read_settings

    if args.timeout is not None and not 0 <= args.timeout <= _TIMEOUT_S_MAX:
        raise BadRequest(f"{args.timeout} is no number of seconds")
    path = _stage_path(args)
    read_settings(path)
    try:
        requests = RequestFlags.open_to_watch(os.path.join(path, REQUESTS_NAME))
    except OSError as error:
        raise HoldfastError(f"{error.strerror} while opening the stage {path}") from error
    with requests:
        if not requests.wait(args.timeout):
            raise Busy("a sync runs", hint=f"it writes to {os.path.join(path, LOG_NAME)}")
    return EXIT_OK


def _stream(args: Namespace, console: "Console") -> int:
    from holdfast.operations.pg_local import connection_to
    from holdfast.operations.wal_stream import StreamRequest, stream
    from holdfast.postgres.wal_stage import WalStage

    with WalStage.open(_stage_path(args)) as stage:
        connection = args.connection or connection_to(stage.settings.data_directory)
        request = StreamRequest(
            stage=stage, connection=connection, slot=args.slot, say=console.remark
        )
        stream(request)
    return EXIT_OK


def _stage_path(args: Namespace) -> str:
    from holdfast.postgres.wal_stage import stage_path

    return stage_path(args.stage, args.state_dir)


def _stage_if_any(args: Namespace) -> "WalStage | None":
    """The stage that was named, or the usual one when it is there."""
    from holdfast.errors import NotFound
    from holdfast.postgres.wal_stage import WalStage

    try:
        stage = WalStage.open_to_read(_stage_path(args))
    except NotFound:
        if args.stage or not args.cluster:
            raise
        return None
    if args.cluster not in (None, stage.settings.cluster):
        stage.close()
        return None
    return stage
