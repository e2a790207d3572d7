"""The server's side of the NBD handshake: from the greeting to the choice of an export."""

import ssl
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from holdfast.block.nbd_export import Export
from holdfast.block.nbd_protocol import (
    BLOCK_SIZES,
    CLIENT_FLAGS,
    EXPORT_INFO,
    FIXED_NEWSTYLE,
    GREETING,
    NBD_MAGIC,
    NO_ZEROES,
    NO_ZEROES_PADDING,
    OPTION,
    OPTION_BYTES_MAX,
    OPTION_MAGIC,
    PAYLOAD_BYTES_MAX,
    Info,
    NbdError,
    Option,
    OptionData,
    Reply,
    name_bytes,
    option_reply,
)

PREFERRED_BYTES: Final = 4096


class Goodbye(Exception):  # no error: the client left, or has to
    """The connection ends without an export."""


@dataclass(slots=True, kw_only=True)
class Session:
    """What a client has negotiated so far."""

    has_structured: bool = False
    is_secure: bool = False
    contexts_of: str | None = None
    contexts: list[str] = field(default_factory=list)
    pads_zeroes: bool = True


class Handshake:
    """One client's negotiation."""

    def __init__(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        exports: Mapping[str, Export],
        tls: ssl.SSLContext | None,
    ) -> None:
        self.session = Session()
        self._reader = reader
        self._writer = writer
        self._exports = exports
        self._tls = tls

    async def run(self) -> Export:
        """Negotiate until an export is chosen.

        Raises:
            Goodbye: the client left in good order, or chose what does not exist.
            NbdError: it does not follow the protocol.
            IncompleteReadError, OSError: the connection broke.
        """
        self._writer.write(GREETING.pack(NBD_MAGIC, OPTION_MAGIC, FIXED_NEWSTYLE | NO_ZEROES))
        await self._writer.drain()
        (flags,) = CLIENT_FLAGS.unpack(await self._reader.readexactly(CLIENT_FLAGS.size))
        if flags & ~(FIXED_NEWSTYLE | NO_ZEROES) or not flags & FIXED_NEWSTYLE:
            raise NbdError(f"NBD client has unknown handshake flags {flags:#x}")
        self.session.pads_zeroes = not flags & NO_ZEROES
        while True:
            magic, option, length = OPTION.unpack(await self._reader.readexactly(OPTION.size))
            if magic != OPTION_MAGIC:
                raise NbdError("NBD client sent no option where one must be")
            if length > OPTION_BYTES_MAX:
                raise NbdError(f"NBD client sent an option of {length} bytes")
            data = await self._reader.readexactly(length)
            export = await self._option(option, data)
            await self._writer.drain()
            if export is not None:
                return export

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        self._writer.write(option_reply(option, kind, data))

    async def _option(self, option: int, data: bytes) -> Export | None:
        try:
            if self._tls is not None and not self.session.is_secure and option != Option.ABORT:
                await self._before_tls(option, data)
                return None
            return await self._known_option(option, data)
        except NbdError as error:
            self._reply(option, Reply.ERR_INVALID, error.message.encode())
            return None

    async def _before_tls(self, option: int, data: bytes) -> None:
        if option == Option.EXPORT_NAME:
            raise Goodbye
        if option != Option.STARTTLS:
            self._reply(option, Reply.ERR_TLS_REQD, b"this server wants TLS first")
            return
        OptionData(data).end()
        if getattr(self._reader, "_buffer", b""):  # plain bytes would count as said inside TLS
            raise Goodbye
        self._reply(option, Reply.ACK)
        await self._writer.drain()
        assert self._tls is not None
        await self._writer.start_tls(self._tls)
        self.session = Session(is_secure=True, pads_zeroes=self.session.pads_zeroes)

    async def _known_option(self, option: int, data: bytes) -> Export | None:
        match option:
            case Option.EXPORT_NAME:
                return self._export_name(data)
            case Option.ABORT:
                self._reply(option, Reply.ACK)
                await self._writer.drain()
                raise Goodbye
            case Option.LIST:
                self._list(data)
            case Option.STARTTLS:
                if self._tls is not None:
                    raise NbdError("TLS is on already")
                self._reply(option, Reply.ERR_POLICY, b"TLS not configured")
            case Option.INFO | Option.GO:
                return self._info(option, data)
            case Option.STRUCTURED_REPLY:
                self._structured_reply(data)
            case Option.LIST_META_CONTEXT | Option.SET_META_CONTEXT:
                self._meta_context(option, data)
            case _:
                text = f"Unsupported option {option} (<unknown>)"
                self._reply(option, Reply.ERR_UNSUP, text.encode())
        return None

    def _list(self, data: bytes) -> None:
        OptionData(data).end()
        for export in self._exports.values():
            entry = name_bytes(export.name) + export.description.encode()
            self._reply(Option.LIST, Reply.SERVER, entry)
        self._reply(Option.LIST, Reply.ACK)

    def _structured_reply(self, data: bytes) -> None:
        OptionData(data).end()
        if self.session.has_structured:
            raise NbdError("structured reply already negotiated")
        self.session.has_structured = True
        self._reply(Option.STRUCTURED_REPLY, Reply.ACK)

    def _find(self, name: str) -> Export | None:
        if not name and len(self._exports) == 1:
            return next(iter(self._exports.values()))
        return self._exports.get(name)

    def _export_name(self, data: bytes) -> Export:
        try:
            export = self._find(data.decode())
        except UnicodeDecodeError:
            export = None
        if export is None:
            raise Goodbye
        flags = export.flags(structured=self.session.has_structured)
        self._writer.write(struct.pack(">QH", export.node.size_bytes, flags))
        if self.session.pads_zeroes:
            self._writer.write(bytes(NO_ZEROES_PADDING))
        return export

    def _info(self, option: int, data: bytes) -> Export | None:
        fields = OptionData(data)
        name = fields.text()
        wanted = [fields.short() for _number in range(fields.short())]
        fields.end()
        export = self._find(name)
        if export is None:
            self._reply(option, Reply.ERR_UNKNOWN, f"export '{name}' not present".encode())
            return None
        if Info.NAME in wanted:
            entry = struct.pack(">H", Info.NAME) + export.name.encode()
            self._reply(option, Reply.INFO, entry)
        if export.description:
            entry = struct.pack(">H", Info.DESCRIPTION) + export.description.encode()
            self._reply(option, Reply.INFO, entry)
        sizes = BLOCK_SIZES.pack(Info.BLOCK_SIZE, 1, PREFERRED_BYTES, PAYLOAD_BYTES_MAX)
        self._reply(option, Reply.INFO, sizes)
        flags = export.flags(structured=self.session.has_structured)
        about = EXPORT_INFO.pack(Info.EXPORT, export.node.size_bytes, flags)
        self._reply(option, Reply.INFO, about)
        self._reply(option, Reply.ACK)
        return export if option == Option.GO else None

    def _meta_context(self, option: int, data: bytes) -> None:
        if not self.session.has_structured:
            verb = "set" if option == Option.SET_META_CONTEXT else "list"
            raise NbdError(
                f"request option '{verb} meta context' when structured reply is not negotiated"
            )
        fields = OptionData(data)
        name = fields.text()
        queries = [fields.text() for _number in range(fields.number())]
        fields.end()
        export = self._find(name)
        if export is None:
            self._reply(option, Reply.ERR_UNKNOWN, f"export '{name}' not present".encode())
            return
        is_list = option == Option.LIST_META_CONTEXT
        chosen = export.matching(queries, wildcards=is_list)
        numbers = {context: number for number, context in enumerate(export.contexts)}
        for context in chosen:
            number = 0 if is_list else numbers[context]
            entry = struct.pack(">I", number) + context.encode()
            self._reply(option, Reply.META_CONTEXT, entry)
        if not is_list:
            self.session.contexts, self.session.contexts_of = chosen, export.name
        self._reply(option, Reply.ACK)
