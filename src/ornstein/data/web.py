"""Parts of files on a server, one request each, with limits on bytes and time."""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import logging
import os
import re
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError
from urllib3.util import Retry, Timeout, make_headers, parse_url

from ornstein.arguments import shorten

__all__ = ["MAX_PART_BYTES", "THREADS", "Part", "TransientError", "check_address", "fetch", "redact_address"]

THREADS = 16  # concurrent requests, each on a connection that is kept alive
MAX_PART_BYTES = 2**22  # of one request
CONNECT_TIMEOUT = 10.0  # seconds to establish a connection
READ_TIMEOUT = 30.0  # seconds without a byte from the server
MAX_SECONDS = 300.0  # for one whole response
MAX_HEADER_BYTES = 2**18  # of everything but the content
MAX_REDIRECTS = 5
TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)  # may succeed on a retry


class TransientError(Exception):
    """A failure that a retry may resolve, after the number of seconds that the server asks for."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Part:
    """Bytes of a file, the size of the whole file, and the server's name of its version ("" if unnamed)."""

    content: bytes
    total: int
    version: str


def redact_address(address: str) -> str:
    """Return an address for messages: printable, without user, password and query."""
    return shorten(re.sub(r"//[^/]*@", "//", re.split(r"[?#]", address, maxsplit=1)[0]))


def check_address(address: str) -> str:
    """Return an http or https address if it is valid, else raise ValueError."""
    try:
        parts = urlsplit(address)
        is_valid = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
        parse_url(address)
    except ValueError:
        is_valid = False
    if not is_valid or not address.isprintable() or " " in address:
        raise ValueError(f"{redact_address(address)}: is not an address; it must be http(s)://HOST[:PORT]/PATH, "
                         "with other characters written as %XX")
    return address


def fetch(address: str, offset: int, size: int) -> Part:
    """Return 1 to `MAX_PART_BYTES` bytes of a file on a server, through the proxy set in the environment, if any.

    After a `TransientError` a retry may succeed.
    """
    name, url = redact_address(address), address
    for _ in range(MAX_REDIRECTS + 1):
        host, client = urlsplit(url).netloc, _client(os.getpid())
        headers = {"Range": f"bytes={offset}-{offset + size - 1}", "Accept-Encoding": "identity",
                   "User-Agent": "ornstein"}
        if user := parse_url(url).auth:
            headers |= make_headers(basic_auth=unquote(user))
        try:
            response = client.manager(url).request(
                "GET", url, headers=headers, redirect=False, retries=False, preload_content=False, decode_content=False,
                timeout=Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT))
            client.reached_hosts.add(host)
            try:
                if response.status not in (301, 302, 303, 307, 308):
                    return _read_part(response, name, offset, size)
                with contextlib.suppress(HTTPError, ValueError):
                    response.read(MAX_HEADER_BYTES)  # drain a short page, so that the connection can be reused
                url = _redirect_target(name, url, response.headers.get("Location"))
            finally:
                response.close()
        except _LimitExceededError as error:
            raise _unsupported(name, str(error)) from None
        except HTTPError as error:
            raise _classify(name, error, host in client.reached_hosts) from error
    raise ConnectionError(f"{name}: is redirected more than {MAX_REDIRECTS} times; check the address")


def _read_part(response: urllib3.BaseHTTPResponse, name: str, offset: int, size: int) -> Part:
    status, headers, requested = response.status, response.headers, f"{offset}-{offset + size - 1}"
    description = shorten(f"{status} {response.reason or ''}".strip())
    if status in TRANSIENT_STATUSES:
        raise TransientError(description, _retry_after(headers.get("Retry-After", "")))
    if status == 416:
        raise _unsupported(name, f"the server has no bytes {requested}: the file is empty or was truncated")
    if 200 <= status < 300 and status != 206:
        raise _unsupported(name, f"the server does not send parts of a file (status {status})")
    if status != 206:
        raise ConnectionError(f"{name}: the server answers {description}; check the address")
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding != "identity":
        raise _unsupported(name, f"the server compresses the content ({shorten(encoding)})")
    content_range = headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18})", content_range.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise _unsupported(name, "the server does not say which bytes it sends and how large the file is "
                           f"(Content-Range {shorten(content_range)!r})")
    first, last, total = map(int, match.groups())
    lengths = {length.strip() for line in headers.getlist("Content-Length") for length in line.split(",")}
    if (first, last) != (offset, offset + size - 1) or last >= total or not lengths <= {str(size)}:
        length = f" in {shorten(', '.join(sorted(lengths)))} bytes" if lengths else ""
        raise _unsupported(name, f"bytes {requested} were requested, but the server sends {first}-{last} of {total}"
                           f"{length}")
    try:
        content = response.read(size + 1)  # one more byte, to detect content beyond the announced size
    except ValueError as error:  # such as a chunk of -5 bytes
        raise _unsupported(name, f"the response cannot be read ({shorten(str(error))})") from error
    if len(content) > size:
        raise _unsupported(name, f"the server sends more than the {size} bytes that it announced")
    if len(content) < size:
        raise TransientError(f"{len(content)} of {size} bytes were received")
    return Part(content, total, headers.get("ETag") or headers.get("Last-Modified") or "")


def _unsupported(name: str, problem: str) -> ValueError:
    return ValueError(f"{name}: {problem}; copy the shard to a disk")


def _redirect_target(name: str, url: str, target: str | None) -> str:
    try:
        address = check_address(urljoin(url, target or ""))
    except ValueError:
        address = ""
    if not target or not address or (url.startswith("https:") and not address.startswith("https:")):
        raise ValueError(f"{name}: is redirected to {redact_address(target) if target else 'nowhere'}, which is not "
                         "followed; check the address")
    return address


def _classify(name: str, error: HTTPError, was_reached: bool) -> Exception:
    root: BaseException = error
    while cause := root.__cause__ or next((arg for arg in root.args if isinstance(arg, BaseException)), None):
        root = cause
    message = getattr(root, "strerror", None) or str(root) or type(root).__name__
    message = shorten(" ".join(str(message).split()))
    # A server that has never answered is more likely wrong than temporarily away.
    is_invalid_http = isinstance(root, http.client.HTTPException) and not isinstance(
        root, http.client.IncompleteRead | http.client.RemoteDisconnected)
    is_connection_loss = isinstance(error, ProtocolError | ReadTimeoutError) and not is_invalid_http
    if isinstance(root, ssl.SSLCertVerificationError) or not (is_connection_loss or was_reached):
        return ConnectionError(f"{name}: {message}; check the address")
    return TransientError(message)


def _retry_after(text: str) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 for anything else."""
    try:
        return max(0.0, Retry().parse_retry_after(text)) if text else 0.0
    except (HTTPError, ValueError, OverflowError):
        return 0.0


class _LimitExceededError(Exception):
    """A response is longer or slower than the limits allow."""


class _LimitedReader(io.RawIOBase):
    """The bytes of one response, limited in number and time."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        self._raw, self._sock = raw, sock
        self._bytes_left, self._deadline = MAX_HEADER_BYTES + MAX_PART_BYTES, time.monotonic() + MAX_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        seconds_left = self._deadline - time.monotonic()
        if seconds_left <= 0:
            raise self._too_slow()
        if self._bytes_left <= 0:
            raise _LimitExceededError(f"the response is longer than {MAX_HEADER_BYTES + MAX_PART_BYTES} bytes")
        self._sock.settimeout(min(READ_TIMEOUT, seconds_left))
        try:
            count = self._raw.readinto(memoryview(buffer)[:self._bytes_left])
        except TimeoutError:
            if seconds_left <= READ_TIMEOUT:
                raise self._too_slow() from None
            raise TimeoutError(f"no byte in {READ_TIMEOUT:g} s") from None
        self._bytes_left -= count or 0
        return count

    def _too_slow(self) -> _LimitExceededError:
        return _LimitExceededError(f"the response takes more than {MAX_SECONDS:g} s")

    def close(self) -> None:
        self._raw.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp: Any = io.BufferedReader(_LimitedReader(self.fp.detach(), sock))


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls: Any = type("_Connection", (urllib3.connection.HTTPConnection,), {"response_class": _LimitedResponse})


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls: Any = type("_SecureConnection", (urllib3.connection.HTTPSConnection,),
                              {"response_class": _LimitedResponse})


class _Client:
    """The open connections of one process, and the hosts that have answered it."""

    def __init__(self) -> None:
        self.reached_hosts: set[str] = set()
        self._managers: dict[str, urllib3.PoolManager] = {}

    def manager(self, address: str) -> urllib3.PoolManager:
        """Return the connection pool for an address, through the proxy set in the environment."""
        parts = urlsplit(address)
        proxy = getproxies().get(parts.scheme, "")
        if proxy and proxy_bypass(parts.netloc.rpartition("@")[2]):
            proxy = ""
        if proxy not in self._managers:
            options: dict[str, Any] = {"maxsize": THREADS}
            if proxy:
                full = proxy if "://" in proxy else f"http://{proxy}"
                user = parse_url(full).auth
                headers = make_headers(proxy_basic_auth=unquote(user)) if user else None
                manager = urllib3.ProxyManager(full, proxy_headers=headers, **options)
            else:
                manager = urllib3.PoolManager(**options)
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
            self._managers[proxy] = manager
        return self._managers[proxy]


@functools.lru_cache(1)
def _client(_process: int) -> _Client:
    # One per process: a forked process must not use its parent's connections.
    logging.getLogger("urllib3.connection").addFilter(_is_not_header_warning)
    return _Client()


def _is_not_header_warning(record: logging.LogRecord) -> bool:
    # urllib3 logs unparsable headers unescaped and with a traceback.
    return not str(record.msg).startswith("Failed to parse headers")
