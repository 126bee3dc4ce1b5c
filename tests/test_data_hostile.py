"""What a server may answer for a shard: the right pixels or one line, and never more bytes than were asked for."""

import gzip
import io
import itertools
import logging
import re
from email.utils import formatdate

import numpy as np
import pytest
from PIL import Image

from data_corpus import pack
from hostile import ENDLESS, Hostile, at, chunked, drip, endless, first, head, moved, plain, raw, right
from ornstein.data import load_data, remote, web

TAKEN = 2**24  # bytes at most that a client takes of an answer without end, buffers of both sides included


def png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    path = pack(tmp_path_factory.mktemp("shard") / "0.tar", [one for n in range(4) for one in (
        (f"{n}.png", png(n)), (f"{n}.cls", b"%d" % (n % 2)))])
    return path.read_bytes()


@pytest.fixture
def server(shard):
    served = Hostile(shard, right)
    yield served
    served.close()


@pytest.fixture(autouse=True)
def at_once(tmp_path_factory, monkeypatch):
    """No wait is waited; the list of them."""
    waits = []
    monkeypatch.setenv("ORNSTEIN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(remote, "pause", waits.append)
    return waits


BOMB = gzip.compress(bytes(2**24))
NO_PARTS, OTHER, UNSAID = "does not send parts of a file", "were requested, but the server sends", "does not say which"
AWAY, CHECK, MORE = r"no answer in 4 tries \(", "; check the address", "sends more than the"

# The answers that end in one line: name to script and what the line says.
REFUSED = {
    "another range of the right length": (plain(Content_Range=lambda r: at(r, 10)), OTHER),
    "an earlier range of the right length": (plain(Content_Range=lambda r: at(r, -1 if r.first else 1)), OTHER),
    "a longer range": (plain(Content_Range=lambda r: f"bytes {r.first}-{r.last + 1}/{len(r.content)}"), OTHER),
    "a range that runs backwards": (plain(Content_Range=lambda r: f"bytes {r.last + 1}-{r.first}/99999"), OTHER),
    "a range beyond the end it names": (plain(Content_Range=lambda r: f"bytes {r.first}-{r.last}/{r.last}"), OTHER),
    "no range": (plain(Content_Range=None), UNSAID),
    "an empty range": (plain(Content_Range=""), UNSAID),
    "a range without a size": (plain(Content_Range=lambda r: f"bytes {r.first}-{r.last}/*"), UNSAID),
    "a range in other units": (plain(Content_Range=lambda r: f"pages {r.first}-{r.last}/99999"), UNSAID),
    "negative numbers": (plain(Content_Range="bytes -1-0/100"), UNSAID),
    "numbers of 5,000 digits": (plain(Content_Range=f"bytes 0-{'9' * 5000}/{'9' * 5001}"), UNSAID),
    "digits of other scripts": (raw(lambda r: r.answer(Content_Range="bytes 0-0/\xb2")), UNSAID),
    "two ranges": (plain(Content_Range=lambda r: [at(r), at(r, 7)]), UNSAID),
    "an escape sequence as range": (plain(Content_Range="\x1b[2J\x1b]0;owned\x07"), UNSAID),
    "several parts": (plain(Content_Range=None, Content_Type="multipart/byteranges; boundary=x"), UNSAID),
    "the whole file": (plain("200 OK", lambda r: r.content, Content_Range=None), NO_PARTS),
    "the whole file, calling it a part": (plain("200 OK", lambda r: r.content), NO_PARTS),
    "a page in place of the file": (plain("200 OK", b"<html>sign in</html>", Content_Range=None), NO_PARTS),
    "no content": (plain("204 No Content", b"", Content_Range=None), NO_PARTS),
    "status 299": (plain("299 Odd"), NO_PARTS),
    "an endless whole file": (lambda _: endless(bytes(2**16), b"HTTP/1.1 200 OK\r\n\r\n"), NO_PARTS),
    "an endless body": (lambda r: endless(bytes(2**16), head(r, Content_Length=None)), MORE),
    "an endless body in chunks": (lambda r: endless(b"10000\r\n" + bytes(2**16) + b"\r\n", head(
        r, Content_Length=None, Transfer_Encoding="chunked")), MORE),
    "a chunk without end": (lambda r: endless(bytes(2**16), head(
        r, Content_Length=None, Transfer_Encoding="chunked") + b"fffffffffffffff\r\n"), MORE),
    "the size of a chunk without end": (lambda r: endless(b"0" * 2**16, head(
        r, Content_Length=None, Transfer_Encoding="chunked")), AWAY),
    "a chunk of negative size": (lambda r: iter([head(r, Content_Length=None, Transfer_Encoding="chunked") + b"-5\r\n"
                                                 + bytes(99)]), "0.tar: "),
    "a chunk of size -1": (lambda r: endless(bytes(2**16), head(
        r, Content_Length=None, Transfer_Encoding="chunked") + b"-1\r\n"), "0.tar: "),
    "trailers without end": (lambda r: endless(b"X-A: b\r\n" * 8192, chunked(r, end=b"0\r\n")), "is longer than"),
    "a length of 1e15": (plain(Content_Length=10**15), OTHER),
    "a length of 5,000 digits": (plain(Content_Length="9" * 5000), OTHER),
    "a negative length": (plain(Content_Length=-1), OTHER),
    "a length that is no number": (plain(Content_Length="many"), OTHER),
    "a length that is too short": (plain(Content_Length=lambda r: len(r.body) - 1), OTHER),
    "a length that is too long": (plain(Content_Length=lambda r: len(r.body) + 1), OTHER),
    "two lengths": (plain(Content_Length=lambda r: [len(r.body), len(r.body) + 5]), "0.tar: "),
    "more bytes than announced": (plain(body=lambda r: r.body + b"more", Content_Length=None), MORE),
    "more bytes in chunks": (raw(lambda r: chunked(r, extra=b"more")), MORE),
    "gzip": (plain(body=lambda r: gzip.compress(r.body), Content_Encoding="gzip"), r"compresses the content \(gzip\)"),
    "a gzip bomb": (plain(body=BOMB, Content_Encoding="gzip"), r"compresses the content \(gzip\)"),
    "a bomb in a bomb": (plain(body=BOMB, Content_Encoding="gzip, deflate, gzip"), "compresses the content"),
    "an unknown encoding": (plain(Content_Encoding="\x1b[31mred"), r"compresses the content \(\\x1b\[31mred\)"),
    "404": (plain("404 Not Found", b"no"), "the server answers 404 Not Found; check the address"),
    "403": (plain("403 Forbidden", b"no"), "the server answers 403 Forbidden; check the address"),
    "401": (plain("401 Unauthorized", b"", WWW_Authenticate="Basic"), "answers 401 Unauthorized"),
    "410, endless": (lambda _: endless(bytes(2**16), b"HTTP/1.1 410 Gone\r\n\r\n"), "answers 410 Gone"),
    "418 in colours": (plain("418 \x1b[31mI'm\x07 a\ttea\x00pot\x9b2J", b""), r"418 \\x1b\[31mI'm"),
    "a reason of 60,000 letters": (plain("404 " + "a" * 60000, b""), "answers 404 a+ ... a+; check"),
    "416": (plain("416 Range Not Satisfiable", b"", Content_Range="bytes */10"), "is empty or was truncated"),
    "500 without end": (plain("500 Internal Server Error", b""), AWAY + "500 Internal Server Error"),
    "503 in colours": (plain("503 \x1b]52;c;ZXZpbA==\x07", b""), AWAY + r"503 \\x1b\]52"),
    "429 for ever": (plain("429 Too Many Requests", b"", Retry_After="99999999999"), AWAY + "429 Too Many Requests"),
    "304": (plain("304 Not Modified", b""), "answers 304"), "300": (plain("300 Multiple Choices", b""), "answers 300"),
    "101": (plain("101 Switching Protocols", b""), "answers 101"),
    "status 999": (plain("999 Beyond", b""), "answers 999"), "status 0": (plain("000 Nothing", b""), "0.tar: "),
    "a negative status": (plain("-206 Partial Content"), "0.tar: "), "no status": (plain("OK"), "0.tar: "),
    "HTTP/0.9": (raw(b"<html>hello</html>\n"), "0.tar: "),
    "another protocol": (raw(b"SSH-2.0-OpenSSH_9.9\r\n"), "0.tar"),
    "HTTP/9.9": (raw(lambda r: r.answer().replace(b"HTTP/1.1", b"HTTP/9.9")), "0.tar: "),
    "nothing": (raw(), AWAY), "half a status": (raw(b"HTTP/1.1 20"), "0.tar: "),
    "half of the headers": (raw(lambda r: r.answer()[:40]), "0.tar: "),
    "a body that is always cut": (raw(lambda r: r.answer()[:-1]), AWAY + ".*bytes"),
    "chunks that are always cut": (raw(lambda r: chunked(r)[:-9]), AWAY),
    "a header of 1 MB": (plain(X_Long="a" * 2**20), "0.tar: "),
    "10,000 headers": (plain(X_Many=["a"] * 10000), "0.tar: "),
    "headers without end": (lambda _: endless(b"X-A: " + b"a" * 60000 + b"\r\n", b"HTTP/1.1 206 OK\r\n"), "0.tar: "),
    "a header without end": (lambda _: endless(b"a" * 2**16, b"HTTP/1.1 206 OK\r\nX: "), "0.tar: "),
    "a status without end": (lambda _: endless(b"a" * 2**16, b"HTTP/1.1 206 "), "0.tar: "),
    "100 without end": (lambda _: endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000), "is longer than"),
    "to itself": (moved("/0.tar", hops=99), "is redirected more than 5 times; check the address"),
    "a loop": (moved(lambda r: "/b.tar" if "a.tar" in r.path else "/a.tar", hops=99), "more than 5 times"),
    "six times on": (moved(lambda r: r.path + "x", hops=6), "more than 5 times"),
    "to a file": (moved("file:///etc/passwd"), "is redirected to file:///etc/passwd, which is not followed"),
    "to ftp": (moved("ftp://127.0.0.1/0.tar"), "which is not followed"),
    "to data": (moved("data:text/plain,hello"), "which is not followed"),
    "to an address with escapes": (moved("http://127.0.0.1/\x1b[31m"), r"/\\x1b\[31m, which is not followed"),
    "to no port": (moved("http://127.0.0.1:99999/x"), "which is not followed"),
    "to a port where nothing is": (moved("http://127.0.0.1:1/x.tar"), "Connection refused; check the address"),
    "to a host that is not there": (moved("http://no.such.host.invalid/x.tar"), CHECK),
    "to nowhere": (plain("302 Found", b""), "is redirected to nowhere"),
    "to an endless page": (lambda _: endless(bytes(2**16), b"HTTP/1.1 302 Found\r\nLocation: /0.tar\r\n\r\n"),
                           "more than 5 times"),
    "silence": (raw(None), AWAY), "silence after the headers": (raw(head, None), AWAY),
    "a drip": (lambda _: drip(b"HTTP/1.1 206 Partial Content\r\nX: " + b"a" * 999), "takes more than"),
    "a drip of the body": (lambda r: drip(b"a" * 999, head(r, Content_Length=None, Transfer_Encoding="chunked")
                                          + b"fff\r\n"), "takes more than|sends more than"),
}
SLOW = ("silence", "silence after the headers", "silence at first", "a drip", "a drip of the body")


# The answers that are odd and right.
READ = {
    "a good server": right,
    "each connection closed": plain(Connection="close"), "no length": plain(Content_Length=None),
    "HTTP/1.0": raw(lambda r: r.answer(Content_Length=None).replace(b"HTTP/1.1", b"HTTP/1.0")),
    "chunks": raw(chunked), "chunks with trailers": raw(lambda r: chunked(r, end=b"0\r\nX-Sum: 7\r\n\r\n")),
    "headers in small letters": raw(lambda r: r.answer().replace(b"Content-Range", b"content-range")),
    "a range with blanks": plain(Content_Range=lambda r: at(r).replace("bytes ", "BYTES   ")),
    "one length twice": plain(Content_Length=lambda r: [len(r.body)] * 2),
    "encoded as it is": plain(Content_Encoding="identity"), "a weak version": plain(ETag='W/"one"'),
    "a date as version": plain(ETag=None, Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT"),
    "no version": plain(ETag=None),
    "100 first": raw(lambda r: b"HTTP/1.1 100 Continue\r\n\r\n" + r.answer()),
    "escapes in another header": plain(Server="\x1b[31mred\x07"),
    "a header that is none": raw(lambda r: r.answer().replace(b"ETag", b"no colon\r\nETag")),
    "sent on": moved(lambda r: r.path + "x", "301 Moved Permanently"),
    "sent on five times": moved(lambda r: r.path + "x", "307 Temporary Redirect", hops=5),
    "to another name": moved(lambda r: "http://localhost:" + re.search(r"Host: \S+:(\d+)", r.head)[1] + "/x.tar?a=b"),
    "500 twice": first(2, plain("500 Internal Server Error", b"")),
    "502, endless": first(1, lambda _: endless(bytes(2**16), b"HTTP/1.1 502 Bad Gateway\r\n\r\n")),
    "429 and when to come again": first(3, plain("429 Too Many Requests", b"", Retry_After="7")),
    "503 until a date": first(1, plain("503 Busy", b"", Retry_After=formatdate(4_102_444_800, usegmt=True))),
    "503 until a date that is none": first(1, plain("503 Busy", b"", Retry_After="Mon, 99 Foo 99999 00:00:00 GMT")),
    "429 for 5,000 digits": first(1, plain("429 Busy", b"", Retry_After="9" * 5000)),
    "429 until yesterday": first(1, plain("429 Busy", b"", Retry_After="-5")),
    "silence at first": lambda r: iter([None]) if r.number == 1 else right(r),
    "closed": first(3, raw()), "cut": first(3, raw(lambda r: r.answer()[:-1])),
    "cut in the headers": first(3, raw(lambda r: r.answer()[:70])),
    "chunks, cut": first(2, raw(lambda r: chunked(r)[:-9])),
}
ROWS = np.array([3, 0, 2])


def read(server):
    """Pixels of a few rows, read from the server when they are asked for."""
    data = load_data(f"{server.address}/0.tar?token=secret", reader="stream")
    values = data.values[ROWS]
    assert data.values.failed == {}
    return values


def check_line(caught, server):
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 600
    assert f"{server.address}/0.tar: " in line
    assert "secret" not in line


def limit(name, monkeypatch, numbers):
    """For answers that do not end: less time for the requests of these numbers, for others must not depend on it."""
    fetch, asked = web.fetch, itertools.count(1)

    def limited(*given):
        short = name in SLOW and next(asked) in numbers
        monkeypatch.setattr(web, "READ_TIMEOUT", 0.1 if short and "silence" in name else 30.0)
        monkeypatch.setattr(web, "MAX_SECONDS", 0.3 if short and "drip" in name else 300.0)
        return fetch(*given)

    monkeypatch.setattr(web, "fetch", limited)


@pytest.fixture(autouse=True)
def three_tries(monkeypatch):
    monkeypatch.setattr(remote.RemoteShard.__init__, "__defaults__", ((0.01,) * 3,))
    monkeypatch.setattr(web, "MAX_PART_BYTES", 2**15)


@pytest.mark.parametrize("from_request", [1, 3], ids=["from the start", "once indexed"])
@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_that_is_wrong_is_one_line(server, name, from_request, monkeypatch):
    script, message = REFUSED[name]
    limit(name, monkeypatch, range(from_request, 99))
    server.script = lambda request: (script if request.number >= from_request else right)(request)
    with pytest.raises((ValueError, ConnectionError), match=message) as caught:
        read(server)
    check_line(caught, server)
    assert server.sent < TAKEN * len(server.asked) < ENDLESS * len(server.asked)


@pytest.mark.parametrize("name", READ)
def test_an_answer_that_is_odd_and_right_gives_the_right_pixels(server, name, caplog, monkeypatch):
    limit(name, monkeypatch, [1])
    server.script = READ[name]
    assert np.array_equal(read(server)[:, 0, 0, 0], ROWS)
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_at_least_64_answers_are_tried():
    assert len(REFUSED) + len(READ) >= 64


CHANGES = {
    "the version": (plain(ETag='"two"'), "changed on the server"),
    "its strength": (plain(ETag='W/"one"'), "changed on the server"),
    "a version that is gone": (plain(ETag=None), "changed on the server"),
    "the size": (plain(Content_Range=lambda r: at(r, total=512)), "changed on the server"),
    "the size, to less": (plain("416 Range Not Satisfiable", b""), "is empty or was truncated"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("from_request", [2, 3], ids=["between size and index", "between index and pixels"])
def test_a_shard_that_changes_while_it_is_read_is_one_line(server, name, from_request):
    script, message = CHANGES[name]
    server.script = lambda request: (script if request.number >= from_request else right)(request)
    with pytest.raises(ValueError, match=message) as caught:
        read(server)
    check_line(caught, server)


def test_a_shard_is_known_by_its_whole_address_and_by_its_version(server, tmp_path_factory):
    """Equal path and size at another port, with another query, or later: each has its own labels and pixels."""
    path = tmp_path_factory.mktemp("other") / "0.tar"
    other = Hostile(pack(path, [one for n in range(4) for one in (
        (f"{n}.png", png(n + 100)), (f"{n}.cls", b"%d" % (1 - n % 2)))]).read_bytes(), right)

    def facts(address):
        data = load_data(address)
        return data.labels[0], data.values[0, 0, 0, 0]

    for version in ({"ETag": None}, {"ETag": None, "Last_Modified": "then"}, {}):
        server.script = lambda request, version=version: plain(keeps=True, **version)(
            request if "b=2" not in request.path else type(request)(**{**vars(request), "content": other.content}))
        other.script = plain(keeps=True, **version)
        assert facts(server.address + "/0.tar") == facts(server.address + "/0.tar?b=1") == (0, 0)
        assert facts(other.address + "/0.tar") == facts(server.address + "/0.tar?b=2") == (1, 100)
    server.script = plain(ETag='"new"')
    server.content = other.content
    assert facts(server.address + "/0.tar") == (1, 100)
    server.script = plain(ETag=None)
    assert facts(server.address + "/9.tar") == (1, 100)
    server.content = server.content[:-1024] + bytes(1024)
    other.close()


def test_a_shard_without_a_version_is_indexed_at_each_start(server):
    server.script = plain(ETag=None)
    notes = [load_data(server.address + "/0.tar").notes for _ in range(2)]
    assert "the server names no version of its shards (ETag, Last-Modified)" in str(notes[1])
    assert len([request for request in server.asked if request.first == 0 and request.last]) == 2


def test_connections_are_kept(server):
    read(server)
    asked, connections = len(server.asked), server.connections
    for row in range(12):
        web.fetch(server.address + "/0.tar", row, 5)
    assert len(server.asked) == asked + 12
    assert server.connections - connections <= 1


def test_what_cannot_change_is_asked_once(server, at_once):
    server.script = plain("404 Not Found", b"")
    for address in (server.address + "/0.tar", "http://127.0.0.1:1/0.tar", "http://no.such.host.invalid/0.tar",
                    "http://127.0.0.1/\x1b[31m.tar", "http://127.0.0.1:70000/0.tar", "http:///0.tar"):
        with pytest.raises((ConnectionError, ValueError)) as caught:
            load_data(address)
        assert str(caught.value).isprintable()
    assert (len(server.asked), at_once) == (1, [])


def test_a_wait_is_as_long_as_the_server_asks_within_a_minute_and_is_shown(server, at_once, caplog):
    waits = iter(["7", "120", "1", None, None])

    def busy(request):
        after = next(waits, "")
        return right(request) if after == "" else plain("503 \x1b[31mBusy", b"", Retry_After=after)(request)

    server.script = busy
    with caplog.at_level(logging.WARNING):
        assert remote.RemoteShard(server.address + "/0.tar", remote.RETRY_DELAYS).read(0, 9) == server.content[:9]
    assert at_once == [7, 60, 4, 8, 16]
    assert caplog.messages[0] == (f"{server.address}/0.tar: 503 \\x1b[31mBusy; try 2 of 13 follows in 7 s")
    assert len(caplog.messages) == 5


def test_a_server_that_was_met_before_is_waited_for(server, at_once):
    shard = remote.RemoteShard(server.address + "/0.tar", (1, 1))
    shard.signature()
    server.script = plain(Connection="close")
    shard.read(0, 5)
    server.close()
    with pytest.raises(ConnectionError, match=r"no answer in 3 tries \(Connection refused\); try again"):
        shard.read(0, 5)
    assert at_once == [1, 1]


def test_a_large_member_is_fetched_in_parts(server, monkeypatch):
    monkeypatch.setattr(web, "MAX_PART_BYTES", 1000)
    shard = remote.RemoteShard(server.address + "/0.tar")
    assert shard.read(5, 4321) == server.content[5:4326]
    assert shard.read(0, 10**15) == server.content
    assert max(request.last - request.first for request in server.asked) == 999


def test_user_and_password_go_to_the_server_and_into_no_message(server):
    server.script = plain("403 Forbidden", b"")
    with pytest.raises(ConnectionError) as caught:
        load_data(f"http://me:p%40ss@127.0.0.1:{server.port}/0.tar")
    assert "ss@" not in str(caught.value)
    assert "authorization: Basic bWU6cEBzcw==" in server.asked[0].head
