"""`holdfast vm`: back up running QEMU machines."""

import os
from argparse import ArgumentParser, Namespace

from holdfast.archive.open import OpenSnapshot
from holdfast.block.image_restore import Target, restore_image
from holdfast.block.nbd_uri import NbdAddress, is_nbd_address
from holdfast.block.vm_graph import CBW_TIMEOUT_S
from holdfast.block.vm_record import VmRecord, VmRecords
from holdfast.cli import journaled, key_source, selection
from holdfast.cli.console import Console
from holdfast.config.workers import parse_size
from holdfast.datastore.chunk_store import ChunkStore
from holdfast.datastore.manifest import CryptMode
from holdfast.datastore.reader import ChunkReader
from holdfast.datastore.session import SessionSettings
from holdfast.errors import EXIT_OK, ReadOnlyViolation
from holdfast.operations import vm_backup, vm_machines
from holdfast.operations.image_files import image_files, write_new_file
from holdfast.operations.nbd_restore import restore_to_nbd


def add_arguments(parser: ArgumentParser) -> None:
    """One verb each."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("add", help="make a machine known")
    add.add_argument("name", metavar="NAME", help="also the id of its backups: vm/NAME")
    add.add_argument("--qmp", required=True, metavar="SOCKET", help="a QMP socket of its own")
    add.add_argument("--agent", default="", metavar="SOCKET", help="freezes the guest's files")
    add.add_argument("--machine-config", default="", metavar="FILE", help="saved with each backup")
    verbs.add_parser("list", help="machines and their disks")
    for name, about in (
        ("remove", "forget a machine; its backups stay"),
        ("cleanup", "take away what a run that was killed left in a machine"),
        ("backup", "one snapshot of all disks of a machine, while it runs"),
    ):
        verb = verbs.add_parser(name, help=about)
        verb.add_argument("name", metavar="NAME")
        if name == "backup":
            verb.add_argument(
                "--fleecing-dir", default="", metavar="DIR", help="fast local disk for old data"
            )
            verb.add_argument(
                "--fleecing-limit", default="", metavar="SIZE", help="space it may take per disk"
            )
            verb.add_argument(
                "--cbw-timeout",
                type=int,
                default=CBW_TIMEOUT_S,
                metavar="SECONDS",
                help="how long a guest's write waits at most; default 45",
            )
            verb.add_argument("--comment", default="", metavar="TEXT")
    restore = verbs.add_parser("restore", help="write one disk of a snapshot somewhere")
    restore.add_argument("snapshot", metavar="SNAPSHOT", help="vm/NAME or vm/NAME/TIME")
    restore.add_argument("disk", metavar="DISK", help="as `vm list` names it")
    restore.add_argument("target", metavar="TARGET", help="a file, a device or an NBD address")
    restore.add_argument(
        "--file",
        default="",
        metavar="PATH",
        help="only this file of the disk, such as p1/etc/fstab",
    )
    restore.add_argument(
        "--overwrite", action="store_true", help="the target exists and may be lost"
    )


def run(args: Namespace, console: Console) -> int:
    """Do what the verb says."""
    verb = {
        "add": _add,
        "list": _list,
        "remove": _remove,
        "cleanup": _cleanup,
        "backup": _backup,
        "restore": _restore,
    }[args.verb]
    return verb(args, console)


def _records(args: Namespace) -> VmRecords:
    if args.read_only and args.verb not in ("list", "restore"):
        raise ReadOnlyViolation("this command changes what is known of machines")
    return VmRecords(args.state_dir)


def _show(view: vm_machines.MachineView) -> dict[str, object]:
    disks = [{"name": name, "size": size} for name, size in view.disks]
    return {"name": view.name, "qmp": view.qmp, "disks": disks, "problem": view.problem}


def _add(args: Namespace, console: Console) -> int:
    record = VmRecord(name=args.name, qmp=args.qmp, agent=args.agent, config=args.machine_config)
    view = vm_machines.add_machine(_records(args), record)
    if view.problem:
        console.remark(f"{args.name} is known, but does not answer now: {view.problem}")
    if args.json:
        console.document(_show(view))
    return EXIT_OK


def _list(args: Namespace, console: Console) -> int:
    views = vm_machines.list_machines(_records(args))
    if args.json:
        console.document([_show(view) for view in views])
        return EXIT_OK
    rows = []
    for view in views:
        disks = ", ".join(f"{name} ({size} bytes)" for name, size in view.disks)
        rows.append((view.name, view.problem or disks))
    console.lines(rows)
    return EXIT_OK


def _remove(args: Namespace, console: Console) -> int:
    vm_machines.remove_machine(_records(args), args.name, console.progress())
    if args.json:
        console.document({"name": args.name})
    return EXIT_OK


def _cleanup(args: Namespace, console: Console) -> int:
    found = vm_machines.clean_up_machine(_records(args), args.name, console.progress())
    if args.json:
        console.document({"removed": found})
    else:
        console.remark(f"removed {', '.join(found)}" if found else "nothing was left")
    return EXIT_OK


def _settings(args: Namespace) -> SessionSettings:
    key = key_source.load_key(args)
    mode = CryptMode.NONE if key is None else CryptMode.ENCRYPT
    return SessionSettings(key=key, crypt_mode=mode)


def _backup(args: Namespace, console: Console) -> int:
    store, records = selection.open_to_write(args), _records(args)
    request = vm_backup.VmBackupRequest(
        name=args.name,
        ns=selection.namespace(args),
        settings=_settings(args),
        fleecing_dir=os.path.abspath(args.fleecing_dir) if args.fleecing_dir else "",
        fleecing_bytes_max=parse_size(args.fleecing_limit) if args.fleecing_limit else 0,
        cbw_timeout_s=args.cbw_timeout,
        notes=args.comment,
    )
    with journaled.in_journal(args, console, "backup", f"vm/{args.name}"):
        outcome = vm_backup.back_up_vm(
            store, records, request, console.progress(), tell=console.remark
        )
    snapshot = str(outcome.summary.snapshot)
    if args.json:
        disks = [
            {
                "name": disk.name,
                "size": disk.size_bytes,
                "read_bytes": disk.read_bytes,
                "full_reason": disk.full_reason,
            }
            for disk in outcome.disks
        ]
        stats = outcome.summary.stats
        console.document(
            {
                "snapshot": snapshot,
                "disks": disks,
                "new_bytes": stats.new_bytes,
                "reused_bytes": stats.reused_bytes,
                "duration_s": round(outcome.duration_s, 3),
            }
        )
        return EXIT_OK
    console.data(snapshot)
    for disk in outcome.disks:
        why = f", all of it because {disk.full_reason}" if disk.full_reason else ""
        console.remark(f"{disk.name}: read {disk.read_bytes} of {disk.size_bytes} bytes{why}")
    return EXIT_OK


def _restore(args: Namespace, console: Console) -> int:
    store = selection.open_to_read(args)
    snapshot = selection.snapshot(store, args, args.snapshot)
    archive = vm_backup.archive_name(args.disk)
    key, progress = key_source.load_key(args), console.progress()
    if args.file:
        with OpenSnapshot(store, snapshot, key) as opened:
            pieces = image_files(opened, archive).pieces(os.fsencode(args.file))
            written, zero = write_new_file(args.target, pieces), 0
    elif is_nbd_address(args.target):
        address = NbdAddress.parse(args.target)
        done = restore_to_nbd(store, snapshot, archive, address, key=key, progress=progress)
        written, zero = done.written_bytes, done.zero_bytes
    else:
        index = store.open_index(snapshot, f"{archive}.fidx", key=key)
        chunks = ChunkReader(ChunkStore.of(store), key)
        target = Target.OVERWRITE if args.overwrite else Target.NEW
        image = restore_image(index, chunks, args.target, target=target, key=key)
        written, zero = image.written_bytes, image.zero_bytes
    if args.json:
        console.document({"snapshot": str(snapshot), "written_bytes": written, "zero_bytes": zero})
    else:
        console.remark(f"{written} bytes written, {zero} bytes are zero")
    return EXIT_OK
