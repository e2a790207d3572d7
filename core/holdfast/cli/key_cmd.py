"""`holdfast key`: make and care for encryption keys."""

import os
from argparse import ArgumentParser, Namespace
from typing import Final

from holdfast.cli import key_source, selection
from holdfast.cli.console import Console
from holdfast.datastore import key_files, master_key, paper_key
from holdfast.datastore.key_files import KdfName, KeyFile
from holdfast.datastore.keys import EncryptionKey
from holdfast.datastore.paper_key import PaperFormat
from holdfast.errors import EXIT_OK, BadRequest, NotFound, ReadOnlyViolation
from holdfast.host import files
from holdfast.units import MIB

_KDFS: Final = [kdf.value for kdf in KdfName]
_TEXT_BYTES_MAX: Final = 1 * MIB


def add_arguments(parser: ArgumentParser) -> None:
    """One verb each."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = verbs.add_parser("create", help="make a new key, or a master key", allow_abbrev=False)
    create.add_argument("path", metavar="FILE", help="must not exist; with --master its stem")
    create.add_argument(
        "--master", action="store_true", help="an RSA pair, FILE-public.pem and FILE-private.pem"
    )
    info = verbs.add_parser("info", help="what a key file says of itself", allow_abbrev=False)
    info.add_argument("path", metavar="FILE", nargs="?", help="default: --keyfile")
    change = verbs.add_parser("change-passphrase", help="the key stays", allow_abbrev=False)
    change.add_argument("path", metavar="FILE", nargs="?", help="default: --keyfile")
    for verb in (create, change):
        verb.add_argument(
            "--kdf", choices=_KDFS, default=KdfName.SCRYPT.value, help="none: file permissions only"
        )
        verb.add_argument("--hint", help="reminds of the passphrase; everybody can read it")
    paper = verbs.add_parser("paper", help="a copy to print, with a QR code", allow_abbrev=False)
    paper.add_argument(
        "path", metavar="FILE", nargs="?", help="a key file or private master key; --keyfile"
    )
    paper.add_argument("--subject", help="a title line")
    paper.add_argument(
        "--format",
        choices=[form.value for form in PaperFormat],
        default=PaperFormat.TEXT.value,
        help="html is for a browser's print dialogue",
    )
    back = verbs.add_parser("import", help="a key file from its paper text", allow_abbrev=False)
    back.add_argument("paper", metavar="TEXT", help="what was scanned or typed in")
    back.add_argument("path", metavar="FILE", help="must not exist")
    recover = verbs.add_parser(
        "recover", help="the key of a snapshot, by the private master key", allow_abbrev=False
    )
    recover.add_argument("snapshot", metavar="SNAPSHOT")
    recover.add_argument("path", metavar="FILE", help="must not exist; gets no passphrase")
    recover.add_argument("--private", metavar="PEM", required=True, help="the private master key")


def run(args: Namespace, console: Console) -> int:
    """Do what the verb says."""
    verbs = {
        "create": _create,
        "info": _info,
        "change-passphrase": _change_passphrase,
        "paper": _paper,
        "import": _import,
        "recover": _recover,
    }
    return verbs[args.verb](args, console)


def _create(args: Namespace, console: Console) -> int:
    _require_writable(args)
    if args.master:
        private, public = f"{args.path}-private.pem", f"{args.path}-public.pem"
        _require_new(private, public)
        secret = key_source.new_passphrase("passphrase of the master key")
        master_key.create_master_key(private, public, secret)
        if args.json:
            console.document({"private": private, "public": public})
        else:
            console.remark(
                f"made {private} and {public}; keep the first far away from this machine"
            )
        return EXIT_OK
    _require_new(args.path)
    kdf = KdfName(args.kdf)
    key_file = KeyFile.protect(
        EncryptionKey.generate(), _new_passphrase(kdf), kdf=kdf, hint=args.hint
    )
    key_files.save_new(args.path, key_file)
    console.remark("keep a copy elsewhere, on paper for example: without it backups are lost")
    return _tell(args.path, key_file, args, console)


def _info(args: Namespace, console: Console) -> int:
    path = _path(args)
    return _tell(path, key_files.load(path), args, console)


def _change_passphrase(args: Namespace, console: Console) -> int:
    _require_writable(args)
    path = _path(args)
    kdf = KdfName(args.kdf)
    before = key_files.load(path)
    old = None
    if before.has_passphrase:
        old = key_source.passphrase(f"passphrase of {path}")
        before.unlock(old)  # before the new one is asked for
    new = _new_passphrase(kdf, variable=key_source.NEW)
    return _tell(
        path,
        key_files.change_passphrase(path, old, new, kdf=kdf, hint=args.hint),
        args,
        console,
    )


def _paper(args: Namespace, console: Console) -> int:
    path, form = _path(args), PaperFormat(args.format)
    text = _read_text(path)
    if "PRIVATE KEY-----" in text.partition("\n")[0]:
        printed = paper_key.paper_pem(text, subject=args.subject, form=form)
    else:
        printed = paper_key.paper_key(key_files.load(path), subject=args.subject, form=form)
    if args.json:
        console.document({"path": path, "format": form.value, "paper": printed})
    else:
        console.data(printed)
    return EXIT_OK


def _import(args: Namespace, console: Console) -> int:
    _require_writable(args)
    key_file = paper_key.import_paper_key(_read_text(args.paper))
    key_files.save_new(args.path, key_file)
    return _tell(args.path, key_file, args, console)


def _recover(args: Namespace, console: Console) -> int:
    _require_writable(args)
    _require_new(args.path)
    store = selection.open_to_read(args)
    snapshot = selection.snapshot(store, args, args.snapshot)
    encrypted = store.read_blob_file(snapshot, master_key.KEY_BLOB_NAME)
    pem = _read_text(args.private).encode()
    secret = None
    if b"ENCRYPTED" in pem.partition(b"\n")[0] or b"Proc-Type" in pem:
        secret = key_source.passphrase(f"passphrase of {args.private}")
    key_file = master_key.recover(encrypted, pem, secret)
    key_files.save_new(args.path, key_file)
    console.remark("the recovered key has no passphrase; `holdfast key change-passphrase` sets one")
    return _tell(args.path, key_file, args, console)


def _new_passphrase(kdf: KdfName, *, variable: str = key_source.OLD) -> bytes | None:
    if kdf is KdfName.NONE:
        return None
    return key_source.new_passphrase("new passphrase", variable=variable)


def _path(args: Namespace) -> str:
    path: str | None = args.path or args.keyfile
    if not path:
        raise BadRequest("which key file?", hint="name it, or give --keyfile")
    return path


def _require_new(*paths: str) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise BadRequest(f"{path} exists already and is left as it is")


def _require_writable(args: Namespace) -> None:
    if args.read_only:
        raise ReadOnlyViolation(f"`key {args.verb}` writes a file, and read-only was asked for")


def _read_text(path: str) -> str:
    with files.explained(f"reading {path}"):
        try:
            raw = files.read_file(os.path.realpath(path), size_max=_TEXT_BYTES_MAX)
        except FileNotFoundError as error:
            raise NotFound(f"there is no file {path}") from error
    return raw.decode("utf-8", "replace")


def _tell(path: str, key_file: KeyFile, args: Namespace, console: Console) -> int:
    facts = {
        "path": path,
        "kdf": key_file.kdf_name.value,
        "fingerprint": key_file.fingerprint,
        "created": key_file.created,
        "modified": key_file.modified,
        "hint": key_file.hint,
    }
    if args.json:
        console.document(facts)
    else:
        console.lines([(name, value) for name, value in facts.items() if value])
    return EXIT_OK
