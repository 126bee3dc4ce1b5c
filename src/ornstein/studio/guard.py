"""Checks before any route: the host, the origin, the token and the size of the body."""

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

from ornstein.studio.errors import error_response
from ornstein.studio.limits import Limits

__all__ = ["Guard", "is_local"]

COOKIE = "ornstein"
RAW_BODY = ("/api/files", "/api/gallery/read")  # routes whose body is a file
UNIQUE_HEADERS = ("Host", "Origin", "Content-Length", "Authorization")
PUBLIC_PATHS = ("/healthz",)  # need no token
RESPONSE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
                               "frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
}


def is_local(host: str) -> bool:
    """Whether a host is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TooLarge(Exception):
    """A body that exceeds its limit while it is received."""


class Guard:
    """Middleware that refuses foreign, unauthorised or oversized requests and adds the security headers to responses.

    Args:
        app: the application behind it.
        limits: the limits of the studio.
        host: the address that the server is bound to.
        token: the token that clients must send; None for none.
    """

    def __init__(self, app: ASGIApp, limits: Limits, host: str, token: str | None) -> None:
        self.app, self.limits, self.token = app, limits, token
        self.host_names = {"localhost", host.lower(), *(() if is_local(host) else (socket.gethostname().lower(),))}
        self.is_public = not is_local(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                for name, value in RESPONSE_HEADERS.items():
                    MutableHeaders(scope=message).setdefault(name, value)
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        limit, size = self._body_limit(scope["path"]), 0

        async def receive_limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise TooLarge
            return message

        try:
            await self.app(scope, receive_limited, send_guarded)
        except TooLarge:
            if started:
                raise
            await self._too_large(limit)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The response that refuses a request, or None."""
        if repeated := next((name for name in UNIQUE_HEADERS if len(headers.getlist(name)) > 1), None):
            # A proxy in front may use the other value.
            return error_response(400, f"the header {repeated} is given twice", repeated)
        if headers.get("upgrade", "").lower() == "websocket":
            return error_response(400, "websockets are not supported; read the event stream of a job or a training",
                                  "Upgrade")
        if not self._is_known_host(headers.get("host", "")):
            return error_response(403, "the studio does not have this host name; use the address that it printed",
                                  "Host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return error_response(403, "requests from other sites are not allowed", "Origin")
        if headers.get("sec-fetch-site") == "cross-site" and (
                scope["method"] != "GET" or scope["path"] != "/"):
            return error_response(403, "requests from other sites are not allowed", "Sec-Fetch-Site")
        if (refusal := self._check_token(scope, headers)) is not None:
            return refusal
        if "transfer-encoding" in headers and "content-length" in headers:  # a proxy may use the other one
            response = error_response(400, "Content-Length and Transfer-Encoding are both given", "Content-Length")
            response.headers["Connection"] = "close"
            return response
        length, limit = headers.get("content-length", "0"), self._body_limit(scope["path"])
        if not length.isascii() or not length.isdigit() or len(length) > 18:
            return error_response(400, "Content-Length is not a number", "Content-Length")
        return self._too_large(limit) if int(length) > limit else None

    def _is_known_host(self, host: str) -> bool:
        """Whether a Host header names this server, and not a site whose name merely resolves to it (DNS rebinding)."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.host_names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.is_public or address.is_loopback

    def _check_token(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """None if the token is right, a redirect that moves it from the query to a cookie, or a refusal."""
        if self.token is None or scope["path"] in PUBLIC_PATHS:
            return None
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        in_query = query.pop("token", [""])[0]
        if scope["path"] == "/" and self._is_token(in_query):
            response = RedirectResponse("/" + (f"?{urlencode(query, doseq=True)}" if query else ""), 303)
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            return response
        if self._is_token(bearer) or self._is_token(_token_cookie(headers.get("cookie", ""))):
            return None
        return error_response(401, "a token is required: open the address that the studio printed, or send the header "
                                   "Authorization: Bearer TOKEN", "token")

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), (self.token or "").encode())

    def _body_limit(self, path: str) -> int:
        return self.limits.upload if path.startswith(RAW_BODY) else self.limits.body

    def _too_large(self, limit: int) -> Response:
        response = error_response(413, f"the body has more than {limit:,} bytes", "body", limit)
        response.headers["Connection"] = "close"  # the rest of the body is not read
        return response


def _token_cookie(text: str) -> str:
    try:
        cookie: Any = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""
