"""The recorded sample store on a disk: two machines' snapshots, an encrypted one, an orphan."""

from pathlib import Path
from typing import Any

from tests.harness import vectors

_HEAD_BYTES = 4096


def materialize(base: Path) -> Any:
    """Write the files below `base`; what is expected of them."""
    record = vectors.load("datastore", "sample_store")
    for name, content in record["files"].items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "hex" in content:
            path.write_bytes(bytes.fromhex(content["hex"]))
        else:
            head = bytes.fromhex(content["head_hex"]).ljust(_HEAD_BYTES, b"\0")
            path.write_bytes(head + bytes.fromhex(content["tail_hex"]))
    return record["expect"]
