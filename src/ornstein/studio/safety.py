"""Who may ask: hosts, origins, the token and the size of bodies are checked before any route sees a request."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ornstein.studio.limits import Limits
from ornstein.studio.refusal import answer

__all__ = ["Guard", "is_local"]

COOKIE = "ornstein"
RAW = ("/api/files", "/api/gallery/read")  # whose bodies are files
ONCE = ("Host", "Origin", "Content-Length", "Authorization")
OPEN = ("/healthz",)  # without a token
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
                               "frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
}


def is_local(host: str) -> bool:
    """Whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TooLarge(Exception):
    """A body that goes on beyond its limit."""


class Guard:
    """Refuses what comes from elsewhere, without the token or too large, and says what a browser may do with answers.

    Args:
        app: what is guarded.
        limits: on bodies.
        host: that the server is bound to.
        token: that is asked for; None for none.
    """

    def __init__(self, app: ASGIApp, limits: Limits, host: str, token: str | None) -> None:
        self.app, self.limits, self.token = app, limits, token
        self.names = {"localhost", host.lower(), *(() if is_local(host) else (socket.gethostname().lower(),))}
        self.public = not is_local(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                for name, value in HEADERS.items():
                    MutableHeaders(scope=message).setdefault(name, value)
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        most, size = self._most(scope["path"]), 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > most:
                raise TooLarge
            return message

        try:
            await self.app(scope, counted, guarded)
        except TooLarge:
            if begun:
                raise
            await self._large(most)(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Why a request is refused, or None."""
        if twice := next((name for name in ONCE if len(headers.getlist(name)) > 1), None):
            return answer(400, f"the header {twice} is given twice", twice)  # whoever is before it may read the other
        if headers.get("upgrade", "").lower() == "websocket":
            return answer(400, "there are no websockets here; read the events of a job or a training", "Upgrade")
        if not self._knows(headers.get("host", "")):
            return answer(403, "this host name is not the studio's; open it under the address that it printed", "Host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return answer(403, "another site may not ask the studio", "Origin")
        if headers.get("sec-fetch-site") == "cross-site" and (
                scope["method"] != "GET" or scope["path"] != "/"):
            return answer(403, "another site may not ask the studio", "Sec-Fetch-Site")
        if (refusal := self._token(scope, headers)) is not None:
            return refusal
        if "transfer-encoding" in headers and "content-length" in headers:  # a proxy may believe the other
            response = answer(400, "Content-Length and Transfer-Encoding are both given", "Content-Length")
            response.headers["Connection"] = "close"
            return response
        length, most = headers.get("content-length", "0"), self._most(scope["path"])
        if not length.isascii() or not length.isdigit() or len(length) > 18:
            return answer(400, "Content-Length is no number", "Content-Length")
        return self._large(most) if int(length) > most else None

    def _knows(self, host: str) -> bool:
        """Whether a Host header names this server: no other site's name, whatever that resolves to."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.public or address.is_loopback

    def _token(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        if self.token is None or scope["path"] in OPEN:
            return None
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        named = query.pop("token", [""])[0]
        if scope["path"] == "/" and self._right(named):
            response = RedirectResponse("/" + (f"?{urlencode(query, doseq=True)}" if query else ""), 303)
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            return response
        if self._right(bearer) or self._right(_cookie(headers.get("cookie", ""))):
            return None
        return answer(401, "a token is needed: open the address that the studio printed, or send it as "
                           "Authorization: Bearer TOKEN", "token")

    def _right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.token or "").encode())

    def _most(self, path: str) -> int:
        return self.limits.upload if path.startswith(RAW) else self.limits.body

    def _large(self, most: int) -> Response:
        response = answer(413, f"the body has more than {most:,} bytes", "body", most)
        response.headers["Connection"] = "close"  # what is left of it is not read
        return response


def _cookie(text: str) -> str:
    try:
        found: Any = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""
