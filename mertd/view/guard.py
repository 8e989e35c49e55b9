"""The gate of the server: every request passes it before it gets to a route, and every answer gets its headers from it."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mertd.view.access import Access, Asked

COOKIE_S = 30 * 86_400
"""Seconds for which a browser keeps the token."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "style-src-attr 'unsafe-inline'",  # plotly sets attributes of the elements that it draws
        "img-src 'self' data:",  # plotly draws the square as a picture
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the browser may load and run: only files of this server, and no script or style sheet that stands in a page."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer."""


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        asked = asked_of(scope)
        refusal = self._access.refuse(asked)
        if refusal is not None:
            answer: ASGIApp = PlainTextResponse(f"mertd: {refusal.reason}\n", refusal.status)
        elif self._access.brings_token(asked) and asked.path == "/":
            answer = self._with_cookie(RedirectResponse("./", 303))
        else:
            answer = self._app
        await answer(scope, receive, send_with_headers)

    def _with_cookie(self, response: Response) -> Response:
        token = self._access.token or ""
        response.set_cookie(self._access.cookie_name, token, COOKIE_S, httponly=True, samesite="strict")
        return response


def asked_of(scope: Scope) -> Asked:
    """Return what the rules look at of a request."""
    headers = Headers(scope=scope)
    hosts = headers.getlist("host")
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return Asked(
        method=scope["method"],
        path=scope["path"],
        host=hosts[0] if len(hosts) == 1 else None,
        origin=headers.get("origin"),
        fetch_site=headers.get("sec-fetch-site"),
        fetch_mode=headers.get("sec-fetch-mode"),
        authorization=headers.get("authorization"),
        cookie=headers.get("cookie"),
        token=query.get("token", [None])[0],
    )
