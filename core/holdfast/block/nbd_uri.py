"""Where an NBD export is: `nbd://HOST[:PORT]/EXPORT` and `nbd+unix:///EXPORT?socket=PATH`.

`nbds` instead of `nbd` asks for TLS; `tls-certificates=DIR` names a directory with `ca-cert.pem`
and, when the server wants to know its clients, `client-cert.pem` and `client-key.pem`.
Source: the NBD URI specification, doc/uri.md of the NetworkBlockDevice project.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from holdfast.errors import BadRequest

if TYPE_CHECKING:  # every backup asks whether a source is an NBD address; few are
    import ssl

PORT_DEFAULT: Final = 10809
_SCHEMES: Final = ("nbd", "nbds", "nbd+unix", "nbds+unix")


def is_nbd_address(text: str) -> bool:
    """Whether a source or target is meant as an NBD address."""
    return text.startswith(tuple(f"{scheme}:" for scheme in _SCHEMES))


@dataclass(frozen=True, slots=True, kw_only=True)
class NbdAddress:
    """A server and the name of one of its exports.

    Attributes:
        socket_path: a unix socket, or empty for host and port.
        certificates: directory of TLS files, empty for the system's authorities.
    """

    export: str = ""
    socket_path: str = ""
    host: str = ""
    port: int = PORT_DEFAULT
    uses_tls: bool = False
    certificates: str = ""

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read a URI (BadRequest)."""
        from urllib.parse import parse_qs, unquote, urlsplit

        try:
            parts = urlsplit(uri)
            port = parts.port
            query = parse_qs(parts.query, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise BadRequest(f"{uri} is no NBD address: {error}") from error
        if parts.scheme not in _SCHEMES:
            raise BadRequest(f"{uri} is no NBD address: it must begin with nbd:// or nbd+unix://")
        is_unix = parts.scheme.endswith("+unix")
        socket_path = query.get("socket", [""])[0]
        if is_unix != bool(socket_path):
            raise BadRequest(f"{uri} is no NBD address: nbd+unix and ?socket=PATH go together")
        return cls(
            export=unquote(parts.path.removeprefix("/")),
            socket_path=socket_path,
            host="" if is_unix else parts.hostname or "localhost",
            port=PORT_DEFAULT if port is None else port,
            uses_tls=parts.scheme.startswith("nbds"),
            certificates=query.get("tls-certificates", [""])[0],
        )

    def tls_context(self) -> "ssl.SSLContext":
        """How to speak TLS with the server (BadRequest when a certificate cannot be read)."""
        import ssl

        try:
            if not self.certificates:
                return ssl.create_default_context()
            authority = os.path.join(self.certificates, "ca-cert.pem")
            context = ssl.create_default_context(cafile=authority)
            context.check_hostname = not self.socket_path
            own = os.path.join(self.certificates, "client-cert.pem")
            if os.path.exists(own):
                key = os.path.join(self.certificates, "client-key.pem")
                context.load_cert_chain(own, key)
        except (OSError, ssl.SSLError) as error:
            raise BadRequest(f"TLS certificates in {self.certificates}: {error}") from error
        return context


def server_tls_context(certificates: str) -> "ssl.SSLContext":
    """For a server: `server-cert.pem`, `server-key.pem`; with `ca-cert.pem` clients need one, too.

    Raises:
        BadRequest: a file cannot be read.
    """
    import ssl

    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(
            os.path.join(certificates, "server-cert.pem"),
            os.path.join(certificates, "server-key.pem"),
        )
        authority = os.path.join(certificates, "ca-cert.pem")
        if os.path.exists(authority):
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise BadRequest(f"TLS certificates in {certificates}: {error}") from error
    return context
