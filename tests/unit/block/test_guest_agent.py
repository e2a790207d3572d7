"""Freezing through an agent that answers, lies, or is not there."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.block.guest_agent import frozen


class Agent:
    """What an agent on the other end of a unix socket was asked."""

    def __init__(self, *, refuses: str = "", garbage: bytes = b"") -> None:
        self.asked: list[str] = []
        self._refuses = refuses
        self._garbage = garbage

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._garbage)
        while line := await reader.readline():
            request = json.loads(line.lstrip(b"\xff"))
            name = request["execute"]
            self.asked.append(name)
            if name == self._refuses:
                writer.write(b'{"error": {"class": "GenericError", "desc": "not now"}}\n')
            elif name == "guest-sync-delimited":
                number = request["arguments"]["id"]
                writer.write(b"\xff" + json.dumps({"return": number}).encode() + b"\n")
            else:
                writer.write(b'{"return": 2}\n')
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def _running(tmp_path: Path, agent: Agent) -> AsyncIterator[str]:
    path = str(tmp_path / "agent")
    server = await asyncio.start_unix_server(agent.talk, path)
    async with server:
        yield path


async def test_a_guest_is_frozen_inside_and_thawed_afterwards(tmp_path: Path) -> None:
    agent = Agent(garbage=b'{"return": {}}\n\xff{"return": 5}\n')
    async with _running(tmp_path, agent) as path:
        async with frozen(path) as warning:
            assert warning is None
            assert agent.asked == ["guest-sync-delimited", "guest-fsfreeze-freeze"]
        assert agent.asked[-1] == "guest-fsfreeze-thaw"


async def test_a_refusal_is_a_warning_and_thawing_is_tried(tmp_path: Path) -> None:
    agent = Agent(refuses="guest-fsfreeze-freeze")
    async with _running(tmp_path, agent) as path:
        async with frozen(path) as warning:
            assert warning is not None
            assert "not now" in warning
        assert agent.asked[-1] == "guest-fsfreeze-thaw"


async def test_an_error_inside_thaws(tmp_path: Path) -> None:
    agent = Agent()
    async with _running(tmp_path, agent) as path:
        with pytest.raises(ZeroDivisionError):
            async with frozen(path):
                raise ZeroDivisionError
        assert agent.asked[-1] == "guest-fsfreeze-thaw"


async def test_no_agent_is_a_warning_and_none_wanted_is_silence(tmp_path: Path) -> None:
    async with frozen(str(tmp_path / "none")) as warning:
        assert warning is not None
        assert "no guest agent" in warning
    async with frozen("") as warning:
        assert warning is None
