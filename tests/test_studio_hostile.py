"""Two hundred requests that mean harm: each is refused with a status of its own in the one form,
and none leaves a trace.
"""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from PIL import Image

from test_studio import HOST, opened, run

__all__ = ["run"]  # a fixture
ID, OTHER = "0123456789abcdef", "f" * 16
JSON = ("Content-Type", "application/json")
Case = tuple[str, str, list[tuple[str, str]], list[bytes]]
TOKEN = "not-a-secret-of-anyone"  # noqa: S105


def png(width: int, height: int, *, chunks: bytes = b"", data: bytes = b"") -> bytes:
    """A PNG whose header says what it likes."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + head + chunks + chunk(b"IDAT", data or zlib.compress(b"")) + chunk(b"IEND", b"")


def small() -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    return file.getvalue()


def zipped(*names: str, content: bytes | None = None, link: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if link else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, small() if content is None else content)
    return file.getvalue()


def npy(descr: str, shape: str = "(1,)", data: bytes = b"\0" * 64, version: bytes = b"\x01\x00") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY" + version + len(head).to_bytes(2, "little") + head + data


def saved(values: Any, **more: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **more)
    return file.getvalue()


PLACES = ["/../etc/passwd", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
          "/..%5c..%5cwindows%5cwin.ini", "/%252e%252e/etc/passwd", "/..%c0%af..%c0%afetc/passwd", "//etc/passwd",
          "/vendor/../../studio.sqlite", "/vendor/%2e%2e/%2e%2e/store.py", "/%00", "/index.html%00.png", "/%ff%fe",
          "/studio.sqlite", "/pictures/", "/.git/config", "/a" * 2000, "/page/../server.py", "/%2fetc%2fpasswd",
          "/api/files/%2e%2e", "/api/files/..%2f..%2fstudio.sqlite", f"/api/files/{ID}%00", f"/api/files/{ID}/../../x",
          f"/api/files/{ID.upper()}", f"/api/files/{ID}0", "/api/files/%F0%9F%92%A9", f"/api/files/{ID}%2fcontent",
          "/api/jobs/..%2f..%2fstudio.sqlite", f"/api/jobs/{ID}/samples/../../x.png",
          f"/api/jobs/{ID}/samples/-1.png", f"/api/jobs/{ID}/samples/1e3.png", f"/api/jobs/{ID}/samples/99999999.png",
          f"/api/jobs/{ID}/..%2fmean.png", f"/api/jobs/{ID}/other.png", f"/api/jobs/{ID}/%2e%2e.png",
          "/api/models/..%2f..%2fetc%2fpasswd", "/api/models/%2fetc%2fpasswd", "/api/models/..", "/api/models/%00",
          "/api/evaluation/%2fetc%2fpasswd", "/api/report/..%2f..%2f..%2fetc%2fpasswd", "/api/report/%2e%2e",
          "/api/report/digits%2f..%2f..", f"/api/trainings/{ID}/previews/..%2f..%2fx.png",
          f"/api/trainings/{ID}/previews/-1.png", "/api/trainings/..%2flogs", "/api/gallery/..%2f..%2fx",
          "/api/gallery/' OR 1=1 --", "/api/evaluations/../../x", f"/api/jobs/{ID}\r\nX-Evil: 1"]
THEIRS = [("GET", f"/api/{kind}/{OTHER}{more}") for kind, more in (
    ("jobs", ""), ("jobs", "/events"), ("jobs", "/samples/0.png"), ("jobs", "/samples/0.npy"), ("jobs", "/mean.png"),
    ("files", ""), ("files", "/content"), ("files", "/values"), ("gallery", ""), ("trainings", ""),
    ("trainings", "/events"), ("trainings", "/metrics"), ("evaluations", ""), ("evaluations", "/events"))] + [
    ("DELETE", f"/api/{kind}/{OTHER}") for kind in ("jobs", "files", "gallery", "trainings", "evaluations")]
METHODS = [("TRACE", "/"), ("TRACK", "/api/jobs"), ("CONNECT", "/api/jobs"), ("PUT", "/api/jobs"), ("PATCH",
           "/api/jobs"),
           ("DELETE", "/api/jobs"), ("POST", "/healthz"), ("DELETE", "/api/models"), ("PROPFIND", "/"), ("POST", "/"),
           ("OPTIONS", "/api/jobs"), ("DELETE", "/index.html"), ("PUT", "/index.html"), ("get", "/api/jobs/"),
           ("POST", "/api/models/digits"), ("DELETE", f"/api/jobs/{ID}/events")]
HOSTS = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:8780", "169.254.169.254",
         "10.0.0.1:8780", "[::2]", "[", "", "a" * 300, "127.0.0.1@evil.example", "2130706434",
         "metadata.google.internal",
         "\u00ff\u00fe", "127.0.0.1\x00.evil.example", "0.0.0.0:8780"]
ORIGINS = ["http://evil.example", "null", "https://127.0.0.1:8780.evil.example", "file://", "http://127.0.0.1:1",
           "evil",
           "http://localhost:8780", "http://[::1]:8780", "http://127.0.0.1:8780@evil.example", "chrome-extension://abc"]
LENGTHS = ["-1", "1e9", "9" * 30, "0x10", "+5", "5, 6", "99999999", "\u00b2"]
HEADS = [*([("Host", one)] for one in HOSTS), *([("Origin", one)] for one in ORIGINS),
         *([("Content-Length", one)] for one in LENGTHS), [("Sec-Fetch-Site", "cross-site")],
         [("Content-Length", "20"), ("Transfer-Encoding", "chunked")], [("Content-Length", "20"), ("Content-Length",
         "5")],
         [("Host", "127.0.0.1:8780"), ("Host", "evil.example")], [("Upgrade", "websocket"), ("Connection", "Upgrade")],
         [("Origin", HOST), ("Origin", "http://evil.example")], [("Sec-Fetch-Site", "cross-site"), ("Origin", HOST)]]
STRANGERS = [[], *([("Authorization", one)] for one in (
    "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"bearer  {TOKEN}", "Bearer \u00ff")), *(
    [("Cookie", one)] for one in ("ornstein=", f"ornstein={TOKEN[:-1]}", f"Ornstein={TOKEN}", "ornstein=a; ornstein=b",
                                  "=;;;" + "x" * 4000, "ornstein=\u00ff", "ornstein=\x00")),
    [("X-Forwarded-For", "127.0.0.1")], [("X-Original-URL", "/healthz")], [("X-HTTP-Method-Override", "GET")],
    [("Authorization", "Bearer x"), ("Authorization", f"Bearer {TOKEN}")]]
BODIES = [b"", b"null", b"[]", b"true", b'"generate"', b"{", b"\xff\xfe", b"[" * 60_000, b'{"kind": ' * 7000,
          b"a" * 70_000,
          b'{"a":' * 9000 + b"1", b'{"kind": {"$ne": 1}}', b"\x00", b'{"kind": "generate"}\x00', b"\xef\xbb\xbf{}",
          b'{"kind": "generate", "count": 1e999}', b'{"kind": "generate", "guidance": NaN}',
          b'{"kind": "generate", "guidance": -Infinity}', b'{"kind": "generate", "seed": ' + b"9" * 5000 + b"}",
          b'{"kind": "generate", "condition": [NaN]}', b'{"kind": "vary", "strength": Infinity}']
FIELDS: list[dict[str, Any]] = [
    {"count": 10**9}, {"count": -1}, {"count": 1.5}, {"count": True}, {"count": [1]}, {"count": "1; rm -rf /"},
    {"seed": -1}, {"seed": 2**64}, {"seed": 0.5}, {"nfe": 10**12}, {"nfe": 0}, {"steps": {"a": 1}}, {"nfe": 2,
    "steps": 2},
    {"guidance": 1e308}, {"guidance": "high"}, {"label": "\x00"}, {"label": "x" * 10_000}, {"label": -1},
    {"label": ["7"]},
    {"label": "../7"}, {"condition": list(range(2000))}, {"condition": "1"}, {"sampler": "path.py:Evil"},
    {"sampler": "../../evil.py:Rule"}, {"sampler": "__import__('os')"}, {"model": "../../etc/passwd"},
    {"model": "/etc"},
    {"model": "digits\x00"}, {"model": "file:///etc/passwd"}, {"model": "http://evil.example/model"}, {"model": ""},
    {"__proto__": {"a": 1}}, {"kind": "exec"}, {"kind": None}, {"kind": "generate\x00"}, {"client": "other"},
    {"kind": "fill", "picture": "../../x"}, {"kind": "fill", "picture": OTHER}, {"kind": "fill", "picture": OTHER,
                                                                              "mask": "/etc/passwd"},
    {"kind": "fill", "picture": OTHER, "unknown": [{"first": 0, "last": 10**30}]},
    {"kind": "fill", "picture": OTHER, "unknown": [{"first": 0, "last": 1}] * 101},
    {"kind": "vary", "picture": OTHER, "strength": 2}, {"kind": "vary", "picture": OTHER, "row": -1},
    {"kind": "interpolate", "picture": OTHER, "other": OTHER}, {"kind": "trace", "picture": "~/.ssh/id_rsa"},
    {"kind": "restore", "picture": OTHER, "operator": "__import__('os').system('id')"}, {"kind": "trace",
    "figure": "../x"},
    {"kind": "restore", "picture": OTHER, "operator": "blur=1e999"}, {"kind": "nearest", "picture": OTHER,
    "count": 10**6}]
FILES = [b"", b"#!/bin/sh\nid", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", b"<?xml version='1.0'?>",
         b"%PDF-1.7", b"\x7fELF", b"MZ", b"GIF89a", b"BM", b"II*\x00", b"RIFF\x00\x00\x00\x00WEBP", b"\xff\xd8\xff",
         b"\x89PNG", b"\x80\x04\x95cos\nsystem\n", small()[:60], small()[:-20], png(2**31 - 1, 2**31 - 1), png(65_535,
         65_535),
         png(0, 8), png(30_000, 30_000, data=zlib.compress(b"\0" * 10**6)),
         png(8, 8, chunks=b"\xff\xff\xff\xffzTXt"), zipped("../../evil.png"), zipped("/etc/evil.png"),
         zipped("a/../../evil.png"), zipped("..\\..\\evil.png"), zipped("\\\\host\\share\\evil.png"),
         zipped("notes.txt"),
         zipped("__MACOSX/a.png"), zipped(".hidden.png"), zipped("a/"), zipped("bomb.png", content=b"\0" * 10**7),
         zipped(*(f"{number}.png" for number in range(60)), content=b""), zipped("link", link=True,
         content=b"/etc/passwd"),
         zipped("nested.zip", content=zipped("a.png")), zipped("a.png")[:40], b"PK\x03\x04",
         b"PK\x03\x04" + b"\0" * 500,
         saved(np.array([{}], dtype=object), allow_pickle=True), saved(np.array(["text"])), saved(np.float64(1)),
         npy("'|O'"), npy("'<f8'", "(10**12,)"), npy("'<f8'", "(-1,)"), npy("'<f8'", f"({2**50},)"),
         npy("__import__('os')"),
         npy("'<f8'", data=b""), npy("'<f8'", version=b"\x09\x00"), b"\x93NUMPY", b"a" * 300_000]
READS = [b"", b"\x89PNG", small(), png(65_535, 65_535), b"GIF89a", zipped("a.png"), b"\xff\xd8\xff\xe1" + b"\0" * 100,
         b"a" * 300_000]
TRAININGS: list[dict[str, Any]] = [
    {"name": ""}, {"name": "x" * 65, "data": "digits"}, {"name": "a", "data": "/etc/passwd"},
    {"name": "a", "data": "hf:evil/set"}, {"name": "a", "data": "http://evil.example/x.tar"}, {"name": "a",
    "files": [OTHER]},
    {"name": "a", "files": ["../x"]}, {"name": "a", "files": [ID] * 20_001}, {"name": "a", "data": "digits",
    "minutes": 1e9},
    {"name": "a", "data": "digits", "minutes": -1}, {"name": "a", "data": "digits", "size": 10**6}, {"name": "a"},
    {"name": "a", "data": "digits", "seed": -1}, {"name": "digits", "data": "digits"}, {"name": "a", "from": "../../x"},
    {"name": "a", "data": "digits", "files": [ID]}, {"name": "a", "data": "digits", "set": {"threads": 9}}]
QUERIES = ["/api/gallery?limit=1000000", "/api/gallery?limit=-1", "/api/gallery?before=x", "/api/gallery?before=1-2-3",
           "/api/gallery?nfe=1e9", f"/api/gallery?q={'x' * 200}", "/api/jobs?limit=0", "/api/jobs?status=" + "x" * 50,
           "/api/gallery?before=nan", "/api/gallery?bin=maybe", "/api/forward/schedule?points=1000000",
           "/api/forward/schedule?model=../../etc", f"/api/forward/noised?picture={OTHER}&t=nan",
           f"/api/forward/noised?picture={OTHER}&t=inf", f"/api/forward/noised?picture={OTHER}&t=2",
           f"/api/forward/kernel?picture={OTHER}&t=0.5", "/api/forward/kernel?picture=../x&t=0.5",
           f"/api/forward/kernel?picture={OTHER}&t=0.5&row=-1", f"/api/forward/posterior?picture={OTHER}&s=1&t=0.5"]


BODY = b'{"kind": "generate"}'


def hostile() -> list[Case]:
    """All of them: method, address, headers, and the parts of the body."""
    plain = [("GET", path, [], []) for path in [*PLACES, *QUERIES]]
    plain += [(method, path, [], []) for method, path in [*THEIRS, *METHODS]]
    heads = [[(name, value) for name, value in one] for one in HEADS]
    plain += [("POST", "/api/jobs", [JSON, *head], [BODY]) for head in heads]
    plain += [("GET", "/api/models", head, []) for head in heads if head[0][0] != "Content-Length"]
    bodies = [*BODIES, *(json.dumps({"kind": "generate", "seed": 0} | fields).encode() for fields in FIELDS)]
    plain += [("POST", "/api/jobs", [JSON], [body]) for body in bodies]
    plain += [("POST", "/api/jobs", [("Content-Type", kind)], [body]) for kind, body in (
        ("text/plain", BODY), ("application/x-www-form-urlencoded", b"kind=generate"), ("multipart/form-data", BODY))]
    plain += [("POST", "/api/jobs", [JSON, (name, "x" * 1000)], [BODY]) for name in ("Idempotency-Key", "X-Client")]
    plain += [("POST", "/api/files", [], [content]) for content in FILES]
    plain += [("POST", "/api/files", [("Transfer-Encoding", "chunked")], [b"\x89PNG", *[b"a" * 100_000] * 3]),
              ("POST", f"/api/files?name={'x' * 300}", [], [small()]), ("PUT", "/api/files/x", [], [small()]),
              ("PUT", "/api/files/../x", [], [small()])]
    plain += [("POST", "/api/gallery/read", [], [content]) for content in READS]
    plain += [("POST", "/api/trainings", [JSON], [json.dumps(body).encode()]) for body in TRAININGS]
    plain += [("POST", "/api/evaluations", [JSON], [body]) for body in (
        b'{"model": "../../x"}', b'{"count": 1000000000}', b'{"out": "/etc"}')]
    return plain + [("PATCH", f"/api/gallery/{OTHER}", [JSON], [body]) for body in (
        b'{"deleted": true}', b'{"job": "x"}', b'{"favourite": 3}')] + [
        ("POST", f"/api/trainings/{OTHER}/resume", [], [])]


async def ask(app: Any, case: Case) -> tuple[int, bytes]:
    """What an application answers to a request that no client has made decent."""
    method, target, headers, parts = case
    path, _, query = target.partition("?")
    names = {name.lower() for name, _ in headers}
    given = [*headers, *([] if "host" in names else [("Host", "127.0.0.1:8780")])]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
             "path": unquote(path), "raw_path": path.encode("latin-1", "replace"), "query_string": query.encode(),
             "root_path": "", "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given],
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8780)}
    left = [{"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
            for place, part in enumerate(parts or [b""])]
    status, content = 0, b""

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, content
        status = message.get("status", status)
        content += message.get("body", b"")

    await app(scope, receive, send)
    return status, content


def wrongly_answered(app: Any, cases: list[Case]) -> list[Any]:
    """Those that are not refused with a 4xx in the one form, or that tell what is nobody's business."""
    async def all_of_them() -> list[Any]:
        found = []
        for case in cases:
            status, content = await ask(app, case)
            try:
                fault = json.loads(content)
                fine = 400 <= status < 500 and set(fault) == {"error", "field", "limit"} and len(content) < 1000
            except ValueError:
                fine = False
            if not fine or b"Traceback" in content or b"site-packages" in content:
                found.append((str(case)[:300], status, content[:200]))
        return found

    return asyncio.run(all_of_them())


def files_of(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if path.is_file() and "sqlite" not in path.name)


def test_none_of_two_hundred_succeeds_and_nothing_is_left(run, tmp_path):
    cases = hostile()
    assert len(cases) >= 200
    with opened(run, tmp_path / "studio", upload=200_000, unpacked=10**6, files=50) as client:
        assert asyncio.run(ask(client.app, ("GET", "/api/models", [], [])))[0] == 200  # as those who mean well ask
        assert wrongly_answered(client.app, cases) == []
        assert files_of(tmp_path) == []
        assert client.get("/api/jobs").json()["jobs"] == []
        assert client.get("/api/gallery").json()["total"] == 0
        assert client.get("/api/trainings").json()["trainings"] == []
        assert client.get("/healthz").json()["jobs"] == 0


def test_a_stranger_gets_nothing_by_any_header(run, tmp_path):
    paths = ["/", "/app.js", "/api/models", "/openapi.json", "/metrics", f"/api/jobs/{ID}/events"]
    cases: list[Case] = [("GET", path, headers, []) for headers in STRANGERS for path in paths]
    with opened(run, tmp_path / "studio", token=TOKEN) as client:
        assert wrongly_answered(client.app, cases) == []
        assert all(asyncio.run(ask(client.app, case))[0] in (400, 401) for case in cases[::7])
