"""Parts of files on a server: one request each, of which no more is read than was asked for, and not for ever."""

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

__all__ = ["MOST", "THREADS", "Part", "PassingFault", "check_address", "fetch", "shown"]

THREADS = 16  # requests at the same time, each on a connection that is kept
MOST = 2**22  # bytes of one part
CONNECT = 10.0  # seconds until a connection must stand
SILENCE = 30.0  # seconds without a byte until an answer is given up
LONGEST = 300.0  # seconds that one answer may take in all
HEADERS = 2**18  # bytes of all that is not content
REDIRECTS = 5
PASSING = (408, 425, 429, 500, 502, 503, 504)  # what a server says that may say something else later


class PassingFault(Exception):
    """What may be otherwise when the same is asked again, after the seconds that the server asks to wait."""

    def __init__(self, fault: str, after: float = 0.0) -> None:
        super().__init__(fault)
        self.after = after


@dataclass(frozen=True)
class Part:
    """Bytes of a file, the size of the whole, and what the server calls this version of it ("" for nothing)."""

    content: bytes
    total: int
    version: str


def shown(address: str) -> str:
    """Return an address as messages have it: printable, without user, password and query."""
    return shorten(re.sub(r"//[^/]*@", "//", re.split(r"[?#]", address, maxsplit=1)[0]))


def check_address(address: str) -> str:
    """Return an address of http or https, if it is one that can be asked for."""
    try:
        parts = urlsplit(address)
        good = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
        parse_url(address)
    except ValueError:
        good = False
    if not good or not address.isprintable() or " " in address:
        raise ValueError(f"{shown(address)}: is no address; it must be http(s)://HOST[:PORT]/PATH, other characters "
                         "written as %XX")
    return address


def fetch(address: str, offset: int, size: int) -> Part:
    """Return 1 to `MOST` bytes of a file on a server, through the proxy that the environment names, if any; after a
    `PassingFault` it may succeed when it is asked again."""
    name, place = shown(address), address
    for _ in range(REDIRECTS + 1):
        host, client = urlsplit(place).netloc, _client(os.getpid())
        asked = {"Range": f"bytes={offset}-{offset + size - 1}", "Accept-Encoding": "identity",
                 "User-Agent": "ornstein"}
        if user := parse_url(place).auth:
            asked |= make_headers(basic_auth=unquote(user))
        try:
            answer = client.manager(place).request(
                "GET", place, headers=asked, redirect=False, retries=False, preload_content=False, decode_content=False,
                timeout=Timeout(connect=CONNECT, read=SILENCE))
            client.met.add(host)
            try:
                if answer.status not in (301, 302, 303, 307, 308):
                    return _content(answer, name, offset, size)
                with contextlib.suppress(HTTPError, ValueError):
                    answer.read(HEADERS)  # a short page, after which the connection can be kept
                place = _redirected(name, place, answer.headers.get("Location"))
            finally:
                answer.close()
        except _BoundError as error:
            raise _refused(name, str(error)) from None
        except HTTPError as error:
            raise _fault(name, error, host in client.met) from error
    raise ConnectionError(f"{name}: is sent on more than {REDIRECTS} times; check the address")


def _content(answer: urllib3.BaseHTTPResponse, name: str, offset: int, size: int) -> Part:
    status, headers, wanted = answer.status, answer.headers, f"{offset}-{offset + size - 1}"
    said = shorten(f"{status} {answer.reason or ''}".strip())
    if status in PASSING:
        raise PassingFault(said, _seconds(headers.get("Retry-After", "")))
    if status == 416:
        raise _refused(name, f"the server has no bytes {wanted}: it is empty or was cut")
    if 200 <= status < 300 and status != 206:
        raise _refused(name, f"the server does not give parts of a file (status {status})")
    if status != 206:
        raise ConnectionError(f"{name}: the server answers {said}; check the address")
    packed = headers.get("Content-Encoding", "identity").strip().lower()
    if packed != "identity":
        raise _refused(name, f"the server packs what it sends ({shorten(packed)})")
    span = re.fullmatch(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18})", headers.get("Content-Range", "").strip(),
                        re.ASCII | re.IGNORECASE)
    if span is None:
        raise _refused(name, "the server does not say which bytes it sends and how large the file is "
                             f"(Content-Range {shorten(headers.get('Content-Range', ''))!r})")
    first, last, total = map(int, span.groups())
    lengths = {length.strip() for line in headers.getlist("Content-Length") for length in line.split(",")}
    if (first, last) != (offset, offset + size - 1) or last >= total or not lengths <= {str(size)}:
        length = f" in {shorten(', '.join(sorted(lengths)))} bytes" if lengths else ""
        raise _refused(name, f"bytes {wanted} were asked for, and the server sends {first}-{last} of {total}{length}")
    try:
        content = answer.read(size + 1)  # one more: where there is one, the server sends what it did not announce
    except ValueError as error:  # a chunk of -5 bytes
        raise _refused(name, f"the server's answer cannot be read ({shorten(str(error))})") from error
    if len(content) > size:
        raise _refused(name, f"the server sends more than the {size} bytes that it announced")
    if len(content) < size:
        raise PassingFault(f"{len(content)} of {size} bytes came")
    return Part(content, total, headers.get("ETag") or headers.get("Last-Modified") or "")


def _refused(name: str, fault: str) -> ValueError:
    return ValueError(f"{name}: {fault}; copy the shard to a disk")


def _redirected(name: str, place: str, target: str | None) -> str:
    try:
        address = check_address(urljoin(place, target or ""))
    except ValueError:
        address = ""
    if not target or not address or (place.startswith("https:") and not address.startswith("https:")):
        raise ValueError(f"{name}: is sent on to {shown(target) if target else 'nowhere'}, which is not followed; "
                         "check the address")
    return address


def _fault(name: str, error: HTTPError, met: bool) -> Exception:
    inner: BaseException = error
    while cause := inner.__cause__ or next((one for one in inner.args if isinstance(one, BaseException)), None):
        inner = cause
    said = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    said = shorten(" ".join(str(said).split()))
    # A server that was never met is more likely not there than away.
    foreign = isinstance(inner, http.client.HTTPException) and not isinstance(
        inner, http.client.IncompleteRead | http.client.RemoteDisconnected)
    reached = isinstance(error, ProtocolError | ReadTimeoutError) and not foreign
    if isinstance(inner, ssl.SSLCertVerificationError) or not (reached or met):
        return ConnectionError(f"{name}: {said}; check the address")
    return PassingFault(said)


def _seconds(text: str) -> float:
    """What a Retry-After says, a number or a date; 0 for anything else."""
    try:
        return max(0.0, Retry().parse_retry_after(text)) if text else 0.0
    except (HTTPError, ValueError, OverflowError):
        return 0.0


class _BoundError(Exception):
    """An answer is longer or slower than any that was asked for."""


class _Bounded(io.RawIOBase):
    """The bytes of one answer: so many and so long."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        self.raw, self.sock = raw, sock
        self.left, self.end = HEADERS + MOST, time.monotonic() + LONGEST

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        rest = self.end - time.monotonic()
        if rest <= 0:
            raise self._slow()
        if self.left <= 0:
            raise _BoundError(f"the server's answer is longer than {HEADERS + MOST} bytes")
        self.sock.settimeout(min(SILENCE, rest))
        try:
            count = self.raw.readinto(memoryview(buffer)[:self.left])
        except TimeoutError:
            raise self._slow() if rest <= SILENCE else TimeoutError(f"no byte in {SILENCE:g} s") from None
        self.left -= count or 0
        return count

    def _slow(self) -> _BoundError:
        return _BoundError(f"the server's answer takes more than {LONGEST:g} s")

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp: Any = io.BufferedReader(_Bounded(self.fp.detach(), sock))


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls: Any = type("_Connection", (urllib3.connection.HTTPConnection,), {"response_class": _Answer})


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls: Any = type("_SecureConnection", (urllib3.connection.HTTPSConnection,), {"response_class": _Answer})


class _Client:
    """The kept connections of one process, and which servers have answered it before."""

    def __init__(self) -> None:
        self.met: set[str] = set()
        self._managers: dict[str, urllib3.PoolManager] = {}

    def manager(self, address: str) -> urllib3.PoolManager:
        """Return what asks for an address, through the proxy that the environment names for it."""
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
    # A forked process must not speak on its parent's connections.
    logging.getLogger("urllib3.connection").addFilter(_is_ours)
    return _Client()


def _is_ours(record: logging.LogRecord) -> bool:
    # urllib3 logs headers that it cannot parse with a traceback and as they are.
    return not str(record.msg).startswith("Failed to parse headers")
