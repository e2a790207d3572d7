"""Talking to a running QEMU: commands, events, and what this QEMU can do.

Features are read from `query-qmp-schema`, never guessed from a version: an entry of the schema is
an object type with members, a command with an argument type, or an alternative of variants.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Self, cast

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError

from holdfast.errors import HoldfastError, TemporaryFailure

COMMAND_S: Final = 60.0
EVENT_S: Final = 60.0


class QmpRefused(HoldfastError):
    """QEMU said no; `reason` is its own sentence."""

    kind = "qmp"

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"QEMU refused {command}: {reason}")
        self.command = command
        self.reason = reason


class Qmp:
    """One QMP connection. Every method may raise QmpRefused or TemporaryFailure."""

    def __init__(self, client: QMPClient, listener: EventListener) -> None:
        self._client = client
        self._listener = listener
        self._schema: dict[str, dict[str, Any]] | None = None

    @classmethod
    async def connect(cls, path: str) -> Self:
        """Connect to a QMP unix socket (TemporaryFailure when no QEMU answers)."""
        client = QMPClient("holdfast")
        try:
            async with asyncio.timeout(COMMAND_S):
                await client.connect(path)
        except (QMPError, OSError, TimeoutError) as error:
            raise TemporaryFailure(
                f"no QEMU answers at {path}: {error}",
                hint="is the machine running, and is nobody else connected to this socket?",
            ) from error
        listener = EventListener()
        client.register_listener(listener)
        return cls(client, listener)

    async def close(self) -> None:
        try:
            await self._client.disconnect()
        except (QMPError, OSError, EOFError):
            return  # it is gone either way

    async def run(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """The command's return value."""
        try:
            async with asyncio.timeout(COMMAND_S):
                return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise QmpRefused(command, str(error)) from error
        except (QMPError, OSError, EOFError) as error:
            raise TemporaryFailure(f"QEMU went away during {command}: {error}") from error
        except TimeoutError as error:
            raise TemporaryFailure(f"QEMU did not answer {command} in {COMMAND_S:.0f} s") from error

    async def transaction(self, actions: list[tuple[str, Mapping[str, object]]]) -> None:
        """All of it or nothing."""
        listed = [{"type": kind, "data": dict(data)} for kind, data in actions]
        await self.run("transaction", {"actions": listed})

    async def wait_event(
        self, name: str, matches: Callable[[Mapping[str, Any]], bool], timeout_s: float = EVENT_S
    ) -> None:
        """Return when an event with fitting data came since the connection was made."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    event: Message = await self._listener.get()
                    data = cast("Mapping[str, Any]", event.get("data", {}))
                    if event["event"] == name and matches(data):
                        return
        except TimeoutError as error:
            raise TemporaryFailure(f"QEMU did not report {name} in {timeout_s:.0f} s") from error

    def forget_events(self) -> None:
        """From here on wait only for what comes later."""
        self._listener.clear()

    # What it can do ------------------------------------------------------------------------------

    async def _entries(self) -> dict[str, dict[str, Any]]:
        if self._schema is None:
            schema = await self.run("query-qmp-schema")
            self._schema = {entry["name"]: entry for entry in schema}
        return self._schema

    async def arguments_of(self, command: str) -> set[str]:
        """Names of a command's arguments, empty when there is no such command."""
        entries = await self._entries()
        entry = entries.get(command)
        if entry is None:
            return set()
        return _members(entries.get(entry.get("arg-type", "")))

    async def options_of(self, driver: str) -> set[str]:
        """Names of a block driver's options, empty when there is no such driver."""
        entries = await self._entries()
        nodes = entries.get(entries.get("blockdev-add", {}).get("arg-type", ""), {})
        kinds = [v["type"] for v in nodes.get("variants", ()) if v["case"] == driver]
        return _members(nodes) | _members(entries.get(kinds[0])) if kinds else set()


def _members(entry: Mapping[str, Any] | None) -> set[str]:
    return {member["name"] for member in (entry or {}).get("members", ())}
