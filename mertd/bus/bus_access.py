"""Where the bus is and how to get in: what the table `[relay]` and the options of commands say, checked.

Nothing here connects; `bus_connection` does. Passwords in addresses are shown nowhere.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from mertd.errors import BusError, UsageError
from mertd.files import FileError, read_limited
from mertd.text import printable
from mertd.user_folders import expand_home

if TYPE_CHECKING:
    import ssl

SCHEMES = ("nats", "tls")
"""Of addresses. `tls` refuses a server that does not encrypt."""

DEFAULT_PORT = 4222
"""TCP port of a NATS server."""

MAX_FILE = 1 << 20
"""Bytes of a credentials file that is read."""

EXAMPLE = "nats://HOST:4222"


@dataclass(frozen=True)
class BusServer:
    """One server. `user` alone is a token."""

    host: str
    port: int
    scheme: str
    user: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<BusServer {self}>"


@dataclass(frozen=True)
class BusAccess:
    """How to connect. All but `servers` are paths, or None.

    `credentials`: a `.creds` file with a JWT and a seed. `nkey`: a file with a seed. `ca`: certificates of who signs the
    server's; None for the system's. `certificate`, `private_key`: the client's own, PEM.
    """

    servers: tuple[BusServer, ...]
    credentials: str | None = None
    nkey: str | None = None
    ca: str | None = None
    certificate: str | None = None
    private_key: str | None = None

    def __post_init__(self) -> None:
        if self.private_key is not None and self.certificate is None:
            raise UsageError("a private key needs its certificate; give both")
        if self.credentials is not None and self.nkey is not None:
            raise UsageError("credentials and nkey cannot be combined; give one of them")

    @property
    def must_encrypt(self) -> bool:
        """Whether a server without TLS is refused."""
        return self.ca is not None or self.certificate is not None or any(one.scheme == "tls" for one in self.servers)

    def __str__(self) -> str:
        return ", ".join(map(str, self.servers))

    def tls_context(self) -> ssl.SSLContext:
        """Return what encrypts. Reads the files anew, as certificates are replaced. Raises `BusError`."""
        import ssl  # help texts need this file, and not that

        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(expand_home(self.ca)))
        except (OSError, ssl.SSLError) as error:
            raise BusError(f"ca {self.ca}: {_reason(error, 'not a file of PEM certificates')}") from error
        if self.certificate is not None:
            key = None if self.private_key is None else str(expand_home(self.private_key))
            try:
                context.load_cert_chain(expand_home(self.certificate), key, password=_no_password)
            except (OSError, ssl.SSLError) as error:
                what = f"certificate {self.certificate}" + (f" with private_key {key}" if key else "")
                fault = "not a PEM certificate and the private key that belongs to it"
                raise BusError(f"{what}: {_reason(error, fault)}") from error
        return context

    def seed_file(self) -> Path | None:
        """Return the file of the nkey's seed. Raises `BusError` if it has none."""
        if self.nkey is None:
            return None
        path = expand_home(self.nkey)
        if not _is_seed(_content(path, "nkey").strip()):
            raise BusError(f"nkey {path}: not the seed of a user's key (it begins with SU); `nk -gen user` makes one")
        return path

    def credentials_file(self) -> Path | None:
        """Return the credentials file. Raises `BusError` if it holds no JWT and seed."""
        if self.credentials is None:
            return None
        path = expand_home(self.credentials)
        content = _content(path, "credentials")
        if b"BEGIN NATS USER JWT" not in content or b"BEGIN USER NKEY SEED" not in content:
            raise BusError(
                f"credentials {path}: not a credentials file of NATS, with a user's JWT and seed (`nsc generate creds`)"
            )
        return path

    def has_expired(self, now_s: float) -> bool:
        """Return whether the JWT of the credentials file says that it is no longer valid. `now_s`: Unix time."""
        if self.credentials is None:
            return False
        try:
            _, _, text = read_limited(expand_home(self.credentials), MAX_FILE).partition(b"BEGIN NATS USER JWT")
            claims = text.split(b"\n")[1].split(b".")[1].strip()
            expires_s = json.loads(base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4))).get("exp")
        except (OSError, FileError, ValueError, IndexError, AttributeError):
            return False
        return isinstance(expires_s, int) and 0 < expires_s <= now_s


def parse_servers(given: str | Iterable[str]) -> tuple[BusServer, ...]:
    """Return the servers of one bus: addresses separated by commas. Raises `UsageError`; never shows a password."""
    texts = [given] if isinstance(given, str) else list(given)
    found = [_parse(one.strip()) for text in texts for one in text.split(",") if one.strip()]
    if not found:
        raise UsageError(f"the address of the bus is missing; give one, as {EXAMPLE}")
    return tuple(dict.fromkeys(found))


def is_bus(endpoint: str) -> bool:
    """Return whether an endpoint is a bus, and no daemon's ZeroMQ socket."""
    return endpoint.split("://")[0].lower() in SCHEMES


def _parse(text: str) -> BusServer:
    parts: SplitResult | None = None
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        port = 0
    if parts is None or not port or not parts.hostname or parts.scheme not in SCHEMES or parts.path.strip("/") or parts.query:
        raise UsageError(f"{_without_user(text)!r} is not the address of a bus; expected {EXAMPLE} or tls://HOST:PORT")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return BusServer(parts.hostname, port, parts.scheme, user, password)


def _without_user(text: str) -> str:
    """Return an address without what stands before the last @."""
    head, at, tail = text.rpartition("@")
    return printable(f"{head.split('://')[0]}://…@{tail}" if at and "://" in head else tail if at else text, 200)


def _is_seed(text: bytes) -> bool:
    """Return whether a text is the seed of a user's key."""
    import nkeys  # the extra

    try:
        nkeys.from_seed(bytearray(text)).wipe()
    except (nkeys.NkeysError, ValueError, TypeError):
        return False
    return text.startswith(b"SU")


def _content(path: Path, what: str) -> bytes:
    try:
        return read_limited(path, MAX_FILE)
    except (OSError, FileError) as error:
        raise BusError(f"{what} {path}: {getattr(error, 'strerror', None) or error}") from error


def _reason(error: OSError, otherwise: str) -> str:
    return otherwise if type(error).__module__ == "ssl" else error.strerror or str(error)


def _no_password() -> str:
    """Python would ask a terminal for the password of an encrypted key."""
    return ""
