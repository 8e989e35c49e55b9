"""Who may read the page: which names it is called by, from which pages, and with which token.

A page of another origin may make a browser send requests here. With DNS rebinding it may even read the answers, but then it
calls this server by a name of its own. So only known names are answered, and only what the page itself or a person asks for.

Rules of this file: pure functions, no I/O.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from mertd.view.web_address import WebAddress

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names by which a browser on this machine calls it."""

READING = ("GET", "HEAD")
"""The only methods: the page has no controls."""

COOKIE = "mertd_view"
"""Begins the name of the cookie; the port follows, because cookies do not tell ports apart."""


@dataclass(frozen=True)
class Asked:
    """What a request says of itself, as its headers stand; None for a header that is missing.

    `host` is also None if there are several.
    """

    method: str = "GET"
    path: str = "/"
    host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None
    fetch_mode: str | None = None
    authorization: str | None = None
    cookie: str | None = None
    token: str | None = None  # of the query


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered: HTTP status and one line."""

    status: int
    reason: str


@dataclass(frozen=True)
class Access:
    """The rules of one server. `names`: by which it may be called, besides those that follow from the address."""

    address: WebAddress
    names: frozenset[str] = frozenset()
    token: str | None = None  # needed by everyone, if there is one

    @property
    def cookie_name(self) -> str:
        return f"{COOKIE}_{self.address.port}"

    def refuse(self, asked: Asked) -> Refusal | None:
        """Return why a request is refused; None if it is to be answered."""
        host = _name(asked.host)
        if host is None or not self._is_ours(host):
            return Refusal(421, "this server is not known by this name; --name NAME makes it known")
        if asked.method not in READING:
            return Refusal(405, "the page can only be read")
        if asked.origin is not None and not self._is_own_origin(asked.origin, asked.host):
            return Refusal(403, "another page asked for this")
        is_visit = asked.path == "/" and asked.fetch_mode == "navigate"
        if asked.fetch_site not in (None, "same-origin", "none") and not is_visit:
            return Refusal(403, "another page asked for this")
        if not self._has_token(asked):
            return Refusal(401, "open the address with the token that `mertd view` has printed")
        return None

    def brings_token(self, asked: Asked) -> bool:
        """Return whether a request has the right token in its query, so that a cookie can take its place."""
        return self.token is not None and _equal(asked.token, self.token)

    def _has_token(self, asked: Asked) -> bool:
        if self.token is None:
            return True
        scheme, _, bearer = (asked.authorization or "").partition(" ")
        given = [asked.token, bearer.strip() if scheme.lower() == "bearer" else None, self._cookie(asked.cookie)]
        return any(_equal(one, self.token) for one in given)

    def _cookie(self, header: str | None) -> str | None:
        try:
            found = SimpleCookie(header or "").get(self.cookie_name)
        except CookieError:
            return None
        return found.value if found is not None else None

    def _is_ours(self, host: str) -> bool:
        if host in self.names:
            return True
        if host in LOOPBACK_NAMES or host == self.address.host:
            return True
        return not self.address.is_loopback and _is_address(host)  # no name server has a part in it: nobody can rebind it

    def _is_own_origin(self, origin: str, host: str | None) -> bool:
        """Return whether a request comes from the page itself. A proxy may hide at which port a known name was asked."""
        scheme, mark, place = origin.lower().partition("://")
        if not mark or scheme not in ("http", "https"):
            return False
        return (host is not None and place == host.lower()) or _name(place) in self.names


def _name(host: str | None) -> str | None:
    """Return the name in a Host header, in small letters and without port; None if it is malformed."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+?)\.?(?::\d{1,5})?", host or "")
    return found[1].strip("[]").lower() if found else None


def access_for(address: WebAddress, names: Sequence[str], own_name: str, token: str) -> Access:
    """Return the rules for an address. `names`: given by the user, who has a proxy before it, which everyone may reach.

    `own_name`: of this machine. `token`: to be used if others can reach the page.
    """
    if address.is_loopback and not names:
        return Access(address)
    return Access(address, known_names([*names, own_name, f"{own_name}.local"]), token)


def known_names(names: Sequence[str]) -> frozenset[str]:
    """Return names as they are compared."""
    return frozenset(name.strip("[]").rstrip(".").lower() for name in names)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _equal(given: str | None, token: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), token.encode())
