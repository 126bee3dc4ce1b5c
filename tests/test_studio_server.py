"""The studio's own server: whoever is slow, or sends what is no request, does not keep a connection."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import uvicorn
from fastapi.testclient import TestClient

from ornstein.studio.deadlines import DeadlineProtocol
from ornstein.studio.limits import MAX_HEADER, Limits
from ornstein.studio.server import create_app, server_config
from ornstein.studio.state import Studio

PATIENCE = 1.5


class Impatient(DeadlineProtocol):
    """With a shorter wait than users have."""

    patience = PATIENCE


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A server at a free port."""
    studio = Studio(None, tmp_path_factory.mktemp("studio"), limits=Limits(upload=1_000_000))
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(create_app(studio), Impatient))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield door.getsockname()[1]
    server.should_exit = True
    thread.join(10)


@contextmanager
def connected(port):
    with socket.create_connection(("127.0.0.1", port)) as one:
        yield one


def heard(one):
    """What a connection says until the server closes it."""
    said = b""
    with suppress(ConnectionError):
        while part := one.recv(65536):
            said += part
    return said


def request(path="/healthz", method="GET", headers=(), body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def status(said):
    return int(said.split(b" ", 2)[1])


def test_what_does_not_arrive_or_comes_byte_by_byte_is_closed_and_health_is_answered_meanwhile(port):
    parts = [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
             request("/api/files", "POST", ["Content-Length: 1000"]),
             request("/api/files", "POST", ["Content-Length: 1000"], b"\x89PNG"),
             request("/api/jobs", "POST", ["Transfer-Encoding: chunked"], b"5\r\n{\"a\"")]
    with connected(port) as slow:
        slow.sendall(request("/api/files", "POST", ["Content-Length: 1000"]))
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        for one, part in zip(idle, parts, strict=False):
            one.sendall(part)
        with connected(port) as one:
            one.sendall(request(headers=["Connection: close"]))
            assert status(heard(one)) == 200
        closed = False
        for _ in range(100):
            try:
                slow.sendall(b"x")
            except OSError:  # a reset or a broken pipe
                closed = True
                break
            time.sleep(PATIENCE / 10)
        assert closed
        for one in idle:
            heard(one)  # returns, because the server closes
            one.close()


def test_a_connection_is_kept_for_the_next_request(port):
    kept = http.client.HTTPConnection("127.0.0.1", port)
    for body in (None, None, b"\x89PNG" + b"a" * 20_000):
        kept.request("GET" if body is None else "POST", "/healthz" if body is None else "/api/files", body)
        door = kept.sock.getsockname()
        answer = kept.getresponse()
        assert answer.status == (200 if body is None else 422)  # that is no picture
        answer.read()
        assert kept.sock.getsockname() == door
    kept.close()


@pytest.mark.parametrize(("content", "wanted", "limit"), [
    (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000, 431, MAX_HEADER),
    (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: a\r\n" * 20_000, 431, MAX_HEADER),
    (b"hello\r\n\r\n", 400, None), (b"\x16\x03\x01\x02\x00\x01", 400, None),
    (request("/api/jobs", "POST", ["Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n"), 400, None),
    (request("/api/jobs", "POST", ["Content-Length: 5", "Content-Length: 6"], b"12345"), 400, None),
    (request("/api/jobs", "POST", ["Content-Length: -5"]), 400, None),
    (request("/api/jobs", "POST", ["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n"), 400, None),
    (request("/api/jobs", "POST", ["Transfer-Encoding: xchunked"], b"0\r\n\r\n"), 400, None),
    (request("/api/jobs", "POST", ["Transfer-Encoding: chunked"], b"-1\r\nab\r\n0\r\n\r\n"), 400, None),
    (request("/api/jobs", "POST", ["Transfer-Encoding: chunked"], b"1\r\nab\r\n0\r\n\r\n"), 400, None),
    (request(headers=["Host: evil.example"]), 400, None), (request(headers=["X-Evil : 1"]), 400, None),
    (request("/\x00"), 400, None),
    (request("/api/jobs", "POST", ["Content-Length: 100000000", "Connection: close"]), 413, 65536),
    (b"GET /healthz HTTP/1.1\r\n\r\n", 400, None)])
def test_what_is_no_request_is_refused_in_the_form_of_all_errors(port, content, wanted, limit):
    with connected(port) as one:
        with suppress(ConnectionError):  # refused before all of it was sent
            one.sendall(content)
        said = heard(one)
    if said:  # a reset may overtake the answer to one that goes on sending
        assert status(said) == wanted
        fault = json.loads(said.partition(b"\r\n\r\n")[2])
        assert set(fault) == {"error", "field", "limit"}
        assert limit is None or fault["limit"] == limit


@pytest.mark.slow
def test_a_training_is_a_process_that_outlives_the_studio_and_is_found_again(tmp_path):
    """One that is stopped saves and goes on; a second one waits for its turn; the first one's model is then served."""
    with TestClient(create_app(Studio(None, tmp_path)), "http://127.0.0.1") as client:
        def state(id):
            return client.get(f"/api/trainings/{id}").json()

        def until(id, *wanted):
            while (status := state(id)["status"]) not in (*wanted, "done", "failed"):
                time.sleep(0.2)
            return status

        first = client.post("/api/trainings", json={"name": "points", "data": "moons", "minutes": 1.5}).json()["id"]
        second = client.post("/api/trainings", json={"name": "more", "data": "moons", "minutes": 0.1}).json()
        assert (second["status"], second["position"]) == ("waiting", 1)
        assert client.post("/api/trainings", json={"name": "points", "data": "moons"}).json()["field"] == "name"
        until(first, "running")
        while not client.get(f"/api/trainings/{first}/metrics").json()["points"]:
            time.sleep(0.2)
    with TestClient(create_app(Studio(None, tmp_path)), "http://127.0.0.1") as client:
        assert until(first, "running") == "running"
        assert client.delete(f"/api/trainings/{first}").json()["status"] == "stopping"
        assert until(first, "stopped") == "stopped"
        assert client.delete(f"/api/trainings/{second['id']}").json()["status"] in ("stopped", "running", "stopping")
        assert client.post(f"/api/trainings/{first}/resume").status_code == 202
        with client.stream("GET", f"/api/trainings/{first}/events") as stream:
            kinds = {line for line in stream.iter_lines() if line.startswith("event: ")}
        assert {"event: status", "event: metrics", "event: done"} <= kinds
        assert client.post(f"/api/trainings/{first}/resume").status_code == 409
        assert "points" in [one["name"] for one in client.get("/api/models").json()["models"]]
