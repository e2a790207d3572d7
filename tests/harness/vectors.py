"""Recorded bytes and decisions that the engine must reproduce."""

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "vectors"


def load(area: str, name: str) -> Any:  # JSON of many shapes
    """The parsed JSON file `name` of "datastore", "pxar", "block" or "postgres"."""
    return json.loads((GOLDEN / area / f"{name}.json").read_text(encoding="utf-8"))
