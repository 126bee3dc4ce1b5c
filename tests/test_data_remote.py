"""Shards on a server that stumbles: the same data in the same order, or one clear line."""

import http.server
import io
import re
import threading

import numpy as np
import pytest
from PIL import Image

from data_corpus import pack
from ornstein.data import load_data, remote


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(remote.RemoteShard.__init__, "__defaults__", ((0.01,) * 8,))


def png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def server(tmp_path):
    """A server of two shards; `faults` says what the next requests meet."""
    for shard in range(2):
        pack(tmp_path / f"{shard}.tar", [one for n in range(12 * shard, 12 * shard + 12)
                                         for one in ((f"{n}.png", png(n)), (f"{n}.cls", b"%d" % (n % 2)))])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            fault = self.server.faults.pop(0) if self.server.faults else None
            path = tmp_path / self.path.lstrip("/").partition("?")[0]
            if fault == "gone":
                return self.connection.close()
            if isinstance(fault, int) or not path.exists():
                return self.send_error(fault or 404)
            content = path.read_bytes()
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
            self.send_response(200 if fault == "whole" else 206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            body = content[first:last + 1]
            return self.wfile.write(body[:len(body) // 2] if fault == "cut" else body)

        def log_message(self, *given):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 64  # of five, the sixth that asks at the same time waits a second
        daemon_threads = True

    served = Server(("127.0.0.1", 0), Handler)
    served.faults, served.address = [], f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.mark.parametrize("reader", ["cache", "stream"])
def test_remote_shards_are_what_local_ones_are(server, tmp_path, reader):
    data = load_data(f"{server.address}/{{0..1}}.tar?token=secret", reader=reader)
    local = load_data(tmp_path, reader="cache")
    assert np.array_equal(data.values[:], local.values)
    assert np.array_equal(data.labels, local.labels)
    assert "secret" not in repr(data.notes)


@pytest.mark.parametrize("fault", ["gone", "cut", 500, 503, 429])
def test_a_server_that_stumbles_changes_nothing(server, tmp_path, fault):
    server.faults += [fault] * 3
    data = load_data(f"{server.address}/{{0..1}}.tar", reader="stream")
    expected = load_data(tmp_path, reader="cache").values
    for rows in (np.array([3, 20, 7]), np.array([23, 0])):
        server.faults += [fault] * 2
        assert np.array_equal(data.values[rows], expected[rows])
    assert data.values.failed == {}


def test_a_server_that_stays_away_is_one_line(server):
    server.faults += [500] * 99
    with pytest.raises(ConnectionError, match=r"/0\.tar: no answer in 9 tries \(500 Internal Server Error\); try"):
        load_data(f"{server.address}/0.tar")


def test_only_shards_are_read_over_http(server):
    with pytest.raises(ValueError, match=r"/0\.zip' is not an address of \.tar shards; download other files first"):
        load_data(server.address + "/0.zip")
