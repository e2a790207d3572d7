"""Freezing a guest's file systems for the moment of a backup, through its agent.

The agent's channel is a unix socket with one JSON document per line. It may hold rests of earlier
talks, so a talk begins with the byte 0xFF and `guest-sync-delimited` with a random number, and
everything up to 0xFF and that number is thrown away.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from holdfast.errors import TemporaryFailure

ANSWER_S: Final = 5.0
FREEZE_S: Final = 30.0
_LINE_BYTES_MAX: Final = 1 << 20
_DELIMITER: Final = b"\xff"


class GuestAgent:
    """One talk with an agent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def _ask(self, command: str, *, timeout_s: float) -> Any:
        self._writer.write(json.dumps({"execute": command}).encode() + b"\n")
        async with asyncio.timeout(timeout_s):
            answer = json.loads(await self._reader.readline())
        if "error" in answer:
            raise TemporaryFailure(f"guest agent refused {command}: {answer['error'].get('desc')}")
        return answer["return"]

    async def sync(self) -> None:
        """Skip what earlier talks left."""
        number = secrets.randbits(62)
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self._writer.write(_DELIMITER + json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(ANSWER_S):
            while True:
                await self._reader.readuntil(_DELIMITER)
                line = await self._reader.readline()
                if json.loads(line).get("return") == number:
                    return

    async def freeze(self) -> int:
        """How many file systems are frozen now."""
        return int(await self._ask("guest-fsfreeze-freeze", timeout_s=FREEZE_S))

    async def thaw(self) -> None:
        await self._ask("guest-fsfreeze-thaw", timeout_s=FREEZE_S)


@asynccontextmanager
async def frozen(path: str) -> AsyncIterator[str | None]:
    """Freeze inside the block when an agent answers; the warning that it did not, otherwise.

    Thawing is always tried, since a freeze that timed out may have happened all the same.
    """
    if not path:
        yield None
        return
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_BYTES_MAX)
    except OSError as error:
        yield f"no guest agent answers ({error.strerror}); the backup is as after a power loss"
        return
    agent, warning = GuestAgent(reader, writer), None
    try:
        try:
            await agent.sync()
            await agent.freeze()
        except (TimeoutError, TemporaryFailure, OSError, ValueError, KeyError) as error:
            reason = str(error) or "no answer in time"
            warning = f"the guest was not frozen ({reason}); the backup is as after a power loss"
        except asyncio.IncompleteReadError:
            warning = "the guest agent went away; the backup is as after a power loss"
        yield warning
    finally:
        with suppress(TimeoutError, TemporaryFailure, OSError, ValueError, KeyError):
            await agent.thaw()  # refused when nothing is frozen
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
