"""What verifications found over time, kept in the manifest's `unprotected` part.

`verify_state` is the last result, as Proxmox Backup keeps it. The ones before it are in a key of our
own beside it, which other programs pass on unchanged. When one of them verifies, its result replaces
`verify_state` only; it joins the history with our next verification.
"""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.datastore.manifest import VerifyState

KEY: Final = "holdfast-verify-history"
RESULTS_MAX: Final = 32


def read(unprotected: Mapping[str, Any]) -> tuple[VerifyState, ...]:
    """All known results, the newest last; what is malformed is left out."""
    kept = unprotected.get(KEY)
    values = kept[-RESULTS_MAX:] if isinstance(kept, list) else []
    results = [VerifyState.from_json(value) for value in values]
    last = VerifyState.from_json(unprotected.get("verify_state"))
    if last not in results:
        results.append(last)
    return tuple(result for result in results if result is not None)


def add(unprotected: dict[str, Any], result: VerifyState) -> None:
    """Make `result` the last one; the oldest beyond RESULTS_MAX are dropped."""
    results = [*read(unprotected), result][-RESULTS_MAX:]
    unprotected[KEY] = [each.to_json() for each in results]
    unprotected["verify_state"] = result.to_json()
