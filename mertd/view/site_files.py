"""The files of the page, read once: no address that a browser asks for ever becomes a path on the disk."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mertd import __version__
from mertd.view.view_extra import chart_bundle

SITE = Path(__file__).with_name("site")
"""Where the page, its style and its scripts are."""

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Types by the end of a file's name; no other files are sent."""

MIN_PACKED_BYTES = 1_000
"""Smaller files are not compressed."""

MAP_STYLE = re.compile(rb'getElementById\("([0-9a-f]{64})"\)')
"""Where plotly's bundle looks whether its style sheet for maps is there. There are no maps here, and the browser is told to
refuse style sheets that a script writes, so the page has an empty element of this name.
"""

COMPILE_AT_ONCE = b"//# allFunctionsCalledOnLoad\n"
"""First line of the bundle. Chromium then compiles it in a thread of its own while it arrives; otherwise it does so when the
bundle runs, function by function, which occupies the page five times as long. For other browsers it is a comment.
"""

FOR_EVER = "public, max-age=31536000, immutable"
"""How long a browser keeps a file whose address has its version."""

ASK_AGAIN = "no-cache"
"""A browser keeps a file, and asks whether it is still the same."""


@dataclass(frozen=True)
class SiteFile:
    """One file as it is sent."""

    kind: str
    content: bytes
    caching: str = ASK_AGAIN

    @cached_property
    def packed(self) -> bytes:
        return gzip.compress(self.content, 6, mtime=0)

    @cached_property
    def mark(self) -> str:
        """The ETag."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:24]}"'

    def answer(self, request: Request) -> Response:
        """Return the file, or that it has not changed."""
        headers = {"Cache-Control": self.caching, "ETag": self.mark, "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == self.mark:
            return Response(status_code=304, headers=headers)
        content = self.content
        if "gzip" in request.headers.get("accept-encoding", "") and len(content) > MIN_PACKED_BYTES and not _is_near(request):
            content = self.packed
            headers["Content-Encoding"] = "gzip"
        return Response(content, media_type=self.kind, headers=headers)


def site_routes() -> list[Route]:
    """Return the routes of the files. Raises `MertdError` if plotly's bundle is missing."""
    chart = f"/plotly-{version('plotly')}.min.js"
    bundle = chart_bundle().read_bytes()
    files = {chart: SiteFile(KINDS[".js"], COMPILE_AT_ONCE + bundle, FOR_EVER)}
    maps = MAP_STYLE.search(bundle)
    facts = {
        b"{{chart}}": chart[1:].encode(),
        b"{{version}}": __version__.encode(),
        b"{{maps}}": maps[1] if maps else b"no-maps",
    }
    for path in sorted(SITE.iterdir()):
        if path.suffix in KINDS:
            content = path.read_bytes()
            if path.name == "index.html":
                for mark, fact in facts.items():
                    content = content.replace(mark, fact)
            files["/" if path.name == "index.html" else f"/{path.name}"] = SiteFile(KINDS[path.suffix], content)
    return [_route(path, file) for path, file in files.items()]


def _route(path: str, file: SiteFile) -> Route:
    def answer(request: Request) -> Response:  # not async, so in a thread of its own: packing the bundle takes 0.3 s
        return file.answer(request)

    return Route(path, answer, methods=["GET"])


def _is_near(request: Request) -> bool:
    """Return whether the browser is on this machine, where packing takes longer than sending."""
    return request.client is not None and request.client.host in ("127.0.0.1", "::1")
