"""`holdfast show`: everything known about one snapshot."""

from argparse import ArgumentParser, Namespace

from holdfast.cli import plain_text, selection
from holdfast.cli.console import Console
from holdfast.cli.snapshots_cmd import as_json, verified_text, verify_state_json
from holdfast.datastore import verify_history
from holdfast.datastore.manifest import Manifest, VerifyState
from holdfast.errors import EXIT_OK
from holdfast.ids import epoch_to_name
from holdfast.operations import snapshots
from holdfast.operations.contents import archive_name
from holdfast.operations.snapshots import SnapshotSummary


def add_arguments(parser: ArgumentParser) -> None:
    """One snapshot."""
    parser.add_argument(
        "snapshot", metavar="SNAPSHOT", help="TYPE/ID/TIME; TYPE/ID is the newest of a group"
    )


def run(args: Namespace, console: Console) -> int:
    """Print it."""
    store = selection.open_to_read(args)
    snapshot = selection.snapshot(store, args, args.snapshot)
    summary = snapshots.summarise(store, snapshot)
    manifest = None if summary.is_unfinished else store.manifest(snapshot)
    if args.json:
        console.document(as_json(summary) | manifest_json(manifest))
        return EXIT_OK
    _print(console, summary, manifest)
    return EXIT_OK


def manifest_json(manifest: Manifest | None) -> dict[str, object]:
    """What `show` knows beyond the list."""
    if manifest is None:
        return {
            "manifest": None,
            "upload": None,
            "key_fingerprint": None,
            "signed": False,
            "verify_history": [],
        }
    stats = manifest.chunk_upload_stats
    return {
        "manifest": [
            {
                "filename": entry.filename,
                "archive": archive_name(entry.filename),
                "size": entry.size,
                "crypt_mode": entry.crypt_mode.value,
                "csum": entry.csum.hex(),
            }
            for entry in manifest.files
        ],
        "upload": None
        if stats is None
        else {
            "chunks": stats.count,
            "size": stats.size,
            "stored_bytes": stats.compressed_size,
            "duplicates": stats.duplicates,
        },
        "key_fingerprint": manifest.key_fingerprint,
        "signed": manifest.signature is not None,
        "verify_history": [
            verify_state_json(state) for state in verify_history.read(manifest.unprotected)
        ],
    }


def _result(state: VerifyState) -> str:
    return f"{epoch_to_name(state.upid.start_s)} {state.state.value}"


def _print(console: Console, summary: SnapshotSummary, manifest: Manifest | None) -> None:
    snapshot = summary.snapshot
    facts = [
        ("snapshot", console.styled(str(snapshot), "title")),
        ("namespace", str(snapshot.ns) or "(root)"),
        ("owner", plain_text.harmless(summary.owner)),
        ("size", plain_text.size_text(summary.size)),
        ("verified", verified_text(summary) or "never"),
        ("protected", "yes" if summary.is_protected else "no"),
    ]
    if manifest is not None:
        facts += [("key", manifest.key_fingerprint or "none, not encrypted")]
        earlier = verify_history.read(manifest.unprotected)[-2::-1]
        facts += [
            ("" if number else "earlier", _result(each)) for number, each in enumerate(earlier)
        ]
        if (stats := manifest.chunk_upload_stats) is not None:
            uploaded = (
                f"{stats.count:,} chunks, {plain_text.size_text(stats.size)}, stored as "
                f"{plain_text.size_text(stats.compressed_size)}; {stats.duplicates:,} known before"
            )
            facts += [("upload", uploaded)]
    if summary.verify_state is not None:
        facts += [("task", plain_text.harmless(str(summary.verify_state.upid)))]
    for name, value in facts:
        console.data(f"{name:<10} {value}")
    for number, line in enumerate(summary.comment.splitlines()):
        console.data(f"{'comment' if number == 0 else '':<10} {plain_text.harmless(line)}")
    if manifest is not None:
        console.data()
        rows = [("FILE", "ARCHIVE", "SIZE", "ENCRYPTION", "CHECKSUM")]
        rows += [
            (
                entry.filename,
                archive_name(entry.filename),
                plain_text.size_text(entry.size),
                entry.crypt_mode.value,
                entry.csum.hex()[:16],
            )
            for entry in manifest.files
        ]
        console.lines(rows, right=[2])
