"""The studio over HTTP: its pictures are the library's, nothing is lost, what is not allowed is refused in one form."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import event, text

import ornstein as orn
from ornstein.figures.pictures import file_pixels
from ornstein.request import Request
from ornstein.studio.limits import Limits
from ornstein.studio.rebuild import rebuild
from ornstein.studio.server import create_app
from ornstein.studio.state import Studio

HOST = "http://127.0.0.1:8780"


def untrained(place, spec, width, **options):
    """A small model that nobody has trained, in a folder."""
    torch.manual_seed(0)
    network = orn.UNet(spec.shape, widths=(width,), depths=(1,), classes=len(spec.classes))
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.05)
    model = orn.NetworkDenoiser(network, orn.Cosine(), spec.shape, data=spec, data_std=0.6, **options)
    place.mkdir()
    orn.save(model.eval(), place)
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    spec = orn.DataSpec("digits", "picture", (1, 8, 8), 0.0, 16.0, 17, tuple("0123456789"))
    return untrained(tmp_path_factory.mktemp("runs") / "digits", spec, 16, x_range=(-1, 1))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def opened(run, folder, token=None, **limits):
    return TestClient(create_app(Studio(run, folder, limits=Limits(**limits)), token=token), HOST,
                      raise_server_exceptions=False)


@pytest.fixture
def client(run, folder):
    with opened(run, folder) as client:
        yield client


@pytest.fixture(scope="module")
def idle(run, tmp_path_factory):
    """A studio for requests that leave nothing behind."""
    with opened(run, tmp_path_factory.mktemp("idle")) as client:
        yield client


def finished(client, id):
    """A job after its end, by its events."""
    with client.stream("GET", f"/api/jobs/{id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        kinds = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]
    job = client.get(f"/api/jobs/{id}").json()
    assert kinds[-1] == job["status"]
    return job


def asked(client, **body):
    return finished(client, client.post("/api/jobs", json=body).raise_for_status().json()["id"])


def pixels(client, url):
    with Image.open(io.BytesIO(client.get(url).content)) as image:
        return np.array(image), json.loads(image.info["ornstein"])


def png(values, **more):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", **more)
    return file.getvalue()


def refused(answer, status, field=None, limit=None):
    """An error in the one form that all have."""
    assert answer.status_code == status, answer.text
    fault = answer.json()
    assert set(fault) == {"error", "field", "limit"}
    assert len(fault["error"]) < 500
    assert field is None or fault["field"] == field
    assert limit is None or fault["limit"] == limit
    return answer


def test_a_picture_is_the_one_that_the_library_draws_with_its_settings_inside(client, run):
    body = {"kind": "generate", "count": 3, "seed": 2**64 - 1, "label": "7", "nfe": 8, "guidance": 2}
    job = asked(client, **body)
    assert (job["status"], job["progress"], len(job["samples"])) == ("done", 1, 3)
    model = orn.load(run)
    drawn = file_pixels(model.data, Request(3, "7", guidance=2, seed=2**64 - 1, nfe=8).draw(model))
    for number, sample in enumerate(job["samples"]):
        values, settings = pixels(client, sample["url"])
        assert np.array_equal(values, drawn[number])
        assert (settings["number"], settings["seed"], settings["class"]) == (number, 2**64 - 1, "7")
    again = client.post("/api/gallery/read", content=client.get(sample["url"]).content).json()
    assert (again["model"], again["number"]) == ("digits", 2)
    assert {name: again["request"][name] for name in body} == body
    assert job["command"].startswith(f"ornstein sample {run} --count 3 --seed {2**64 - 1} --label 7")


def test_every_edit_is_the_library_s(client, run):
    model = orn.load(run)
    first = asked(client, kind="generate", count=2, seed=1, nfe=4)["samples"]
    mask = np.zeros((8, 8), np.uint8)
    mask[4:] = 255
    hole = client.post("/api/files", content=png(mask)).json()["id"]
    x = model.data.encode(np.stack([pixels(client, one["url"])[0][:, :, 0] / 255 * 16 for one in first])[:, None])
    known = torch.ones(8, 8, dtype=torch.bool)
    known[4:] = False
    wanted = {"fill": orn.inpaint(model, x[:1], known, 4, nfe=5, seed=3), "vary": orn.vary(
        model, x[:1], 0.3, 4, nfe=5, seed=3), "interpolate": orn.interpolate(model, x[:1], x[1:], 4, nfe=5)}
    more = {"fill": {"mask": hole}, "vary": {"strength": 0.3}, "interpolate": {"other": first[1]["id"]}}
    for kind, drawn in wanted.items():
        job = asked(client, kind=kind, picture=first[0]["id"], count=4, nfe=5, seed=3, **more[kind])
        for sample, values in zip(job["samples"], file_pixels(model.data, drawn), strict=True):
            assert np.array_equal(pixels(client, sample["url"])[0], values), kind
    assert asked(client, kind="restore", picture=first[0]["id"], operator="down=2", measure=True, count=2,
                 nfe=4)["status"] == "done"
    near = asked(client, kind="nearest", picture=first[0]["id"], count=2)
    assert near["status"] == "failed"  # this run does not say what it was trained on
    assert str(client.get("/api/models").json()["models"][0]["name"]) in near["error"]["error"]


def test_the_same_key_is_the_same_job(client):
    body, key = {"kind": "generate", "count": 1, "nfe": 2}, {"Idempotency-Key": "k"}
    first = client.post("/api/jobs", json=body, headers=key)
    again = client.post("/api/jobs", json=body, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    refused(client.post("/api/jobs", json=body | {"seed": 4}, headers=key), 422, "Idempotency-Key")


def test_a_new_process_takes_up_what_was_left_and_loses_no_picture(run, folder):
    """What was queued is drawn, what was drawn stays, and a database that is lost is made anew from the pictures."""
    with opened(run, folder) as client:
        kept = asked(client, kind="generate", count=2, nfe=3, seed=5)
        marked, binned = (one["id"] for one in kept["samples"])
        client.patch(f"/api/gallery/{marked}", json={"favourite": True, "deleted": True})
        client.patch(f"/api/gallery/{marked}", json={"deleted": False})
        client.patch(f"/api/gallery/{binned}", json={"deleted": True})
    left = Studio(run, folder)  # one that is killed before it has begun
    ids = [left.jobs.submit({"kind": "generate", "count": 2, "nfe": 3, "seed": 6, "sampler": "auto", "steps": None,
                             "label": None, "condition": None, "guidance": None}, "a", None)[0] for _ in range(3)]
    left.batcher.close()
    left.store.close()
    with opened(run, folder) as client:
        assert {finished(client, id)["status"] for id in ids} == {"done"}
        before = client.get("/api/gallery").json()
        assert before["total"] == 7
        assert sum(one["favourite"] for one in before["pictures"]) == 1
    (folder / "studio.sqlite").write_bytes(b"not a database, of no use to anyone")
    with pytest.raises(ValueError, match="ornstein studio --rebuild"):
        Studio(run, folder)
    assert rebuild(folder) == {"jobs": 4, "pictures": 8, "uploads": 0, "processes": 0}
    with opened(run, folder) as client:
        after = client.get("/api/gallery").json()["pictures"]
        assert {one["id"] for one in after} == {one["id"] for one in before["pictures"]}
        assert [one["id"] for one in after if one["favourite"]] == [marked]
        assert [one["id"] for one in client.get("/api/gallery?bin=true").json()["pictures"]] == [binned]
        assert client.get(f"/api/jobs/{kept['id']}").json()["samples"] == kept["samples"]


def test_a_disk_that_is_full_is_said_and_nothing_is_lost(run, folder, monkeypatch):
    """SQLite says so itself once its file may grow no more; what was accepted is kept as soon as there is room."""
    monkeypatch.setattr("ornstein.studio.jobs.DISK_RETRY", 0.05)
    studio = Studio(run, folder)
    with TestClient(create_app(studio), HOST, raise_server_exceptions=False) as client:
        def full(connection, _):
            connection.execute("PRAGMA max_page_count=1")  # which is no less than there are already

        studio.store.engine.dispose()
        event.listen(studio.store.engine, "connect", full)
        body, answers = {"kind": "generate", "nfe": 2, "count": 64}, []
        while not answers or answers[-1].status_code == 202:
            answers.append(client.post("/api/jobs", json=body))
        assert "disk of the studio is full" in refused(answers[-1], 507).json()["error"]
        assert client.get("/healthz").status_code == 200
        event.remove(studio.store.engine, "connect", full)
        studio.store.engine.dispose()
        assert {finished(client, answer.json()["id"])["status"] for answer in answers[:-1]} == {"done"}
        assert client.get("/api/gallery").json()["total"] == 64 * len(answers[:-1])


def test_clients_take_turns_and_have_their_limits(run, folder):
    studio = Studio(run, folder, limits=Limits(queue=6, client_jobs=4))
    with TestClient(create_app(studio), HOST) as client:
        studio.jobs._closed = True  # nobody works
        with studio.jobs._condition:
            studio.jobs._condition.notify_all()

        def ask(who):
            return client.post("/api/jobs", json={"kind": "generate", "nfe": 2}, headers={"X-Client": who})

        ids = [ask("many").json()["id"] for _ in range(4)]
        assert ask("few").json()["position"] == 1
        assert client.get(f"/api/jobs/{ids[3]}").json()["position"] == 4
        assert refused(ask("many"), 429, "client", 4).headers["Retry-After"]
        assert ask("few").status_code == 202
        assert refused(ask("third"), 503, "queue", 6).headers["Retry-After"]
        assert client.delete(f"/api/jobs/{ids[0]}").json()["status"] == "cancelled"
        assert ask("third").status_code == 202
        counted = client.get("/metrics").text
        assert "ornstein_accepted_jobs 7.0" in counted
        assert 'ornstein_jobs_total{kind="generate",status="cancelled"} 1.0' in counted


@pytest.mark.parametrize(("body", "field", "limit"), [
    ({"count": 10**6}, "count", 64), ({"count": 0}, "count", 1), ({"count": "3"}, "count", None),
    ({"nfe": 10**9}, "nfe", 1000), ({"seed": -1}, "seed", 0), ({"seed": 2**64}, "seed", 2**64 - 1),
    ({"guidance": float("nan")}, "guidance", None), ({"label": "eight"}, "label", None), ({"label": 11}, "label", None),
    ({"sampler": "evil"}, "sampler", None), ({"condition": [1]}, "condition", None),
    ({"kind": "x" * 5000}, "kind", None), ({"model": "../../etc/passwd"}, "model", None),
    ({"colour": 1}, "colour", None), ({"nfe": 2, "steps": 2}, "nfe", None),
    ({"kind": "vary", "picture": "../etc"}, "picture", None), ({"kind": "vary", "picture": "0" * 16}, "picture", None),
    ({"kind": "restore", "picture": "0" * 16, "operator": "__import__('os')"}, None, None)])
def test_what_is_not_allowed_is_refused_with_its_field_and_limit(idle, body, field, limit):
    answer = idle.post("/api/jobs", content=json.dumps({"kind": "generate", **body}),
                         headers={"Content-Type": "application/json"})
    refused(answer, 404 if field == "model" else 422, field, limit)
    assert idle.get("/api/jobs").json()["jobs"] == []


@pytest.mark.parametrize("content", [
    b"[" * 60_000, b'{"kind": ' * 7000, b"", b"null", b"[]", b"\xff\xfe", b'{"kind": 3}', b"a" * 70_000,
    b'{"kind": "generate", "count": 1e999}', b'{"kind":"generate","seed":' + b"9" * 5000 + b"}"])
def test_a_body_that_is_no_job_is_never_a_failure_of_the_server(idle, content):
    answer = idle.post("/api/jobs", content=content, headers={"Content-Type": "application/json"})
    refused(answer, answer.status_code)
    assert answer.status_code in (400, 413, 422)
    assert len(answer.content) < 1000


def zipped(*names, content=None):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content or png(np.zeros((8, 8), np.uint8)))
    return file.getvalue()


def test_uploads_are_looked_at_and_nothing_of_them_becomes_a_path(run, folder):
    with opened(run, folder, upload=200_000, unpacked=10**6, pixels=10_000) as client:
        def send(content, **query):
            return client.post("/api/files", content=content, params=query)

        id = send(png(np.zeros((8, 8), np.uint8)), name="../../x\n.png").json()["id"]
        assert client.get(f"/api/files/{id}/content").headers["content-type"] == "image/png"
        assert client.put(f"/api/files/{id}", content=png(np.zeros((8, 8), np.uint8))).status_code == 201
        refused(client.put(f"/api/files/{id}", content=png(np.ones((8, 8), np.uint8))), 409)
        refused(send(b"#!/bin/sh"), 422, "body")
        refused(send(b""), 422, "body")
        refused(send(png(np.zeros((8, 8), np.uint8))[:60]), 422, "body")
        refused(send(b"a" * 200_001), 413, "body", 200_000)
        refused(client.post("/api/files", content=iter([b"\x89PNG", b"a" * 300_000])), 413, "body", 200_000)
        refused(send(png(np.zeros((101, 101), np.uint8))), 413, "body", 10_000)
        refused(send(zipped("../../evil.png")), 422)
        refused(send(zipped("bomb.png", content=b"\0" * 10**7)), 413, "body", 10**6)
        refused(send(zipped("notes.txt")), 422)
        refused(send(zipped("a.png")[:40]), 422)
        unsafe = io.BytesIO()
        np.save(unsafe, np.array([{}], dtype=object), allow_pickle=True)
        refused(send(unsafe.getvalue()), 422)
        assert {path.name for path in (folder / "uploads").iterdir()} == {f"{id}.png"}
        assert client.delete(f"/api/files/{id}").status_code == 204
        refused(client.get(f"/api/files/{id}"), 404)


def test_other_sites_other_hosts_and_those_without_the_token_are_refused(run, folder):
    with opened(run, folder, token="0123456789abcdef") as client:  # noqa: S106
        refused(client.get("/api/models"), 401)
        refused(client.get("/api/models", headers={"Authorization": "Bearer 0123456789abcdeF"}), 401)
        refused(client.get("/?token=wrong"), 401)
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/models", headers={"Authorization": "Bearer 0123456789abcdef"}).status_code == 200
        opening = client.get("/?token=0123456789abcdef", follow_redirects=False)
        assert (opening.status_code, opening.headers["location"]) == (303, "/")
        assert "HttpOnly" in opening.headers["set-cookie"]
        assert "samesite=strict" in opening.headers["set-cookie"].lower()
        page = client.get("/")  # with the cookie
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}, {"Origin": "http://evil.example"},
                        {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"}):
            refused(client.post("/api/jobs", json={"kind": "generate"}, headers=headers), 403)
            refused(client.get("/api/models", headers=headers), 403)


@pytest.mark.parametrize("path", [
    "/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%5c..%5cetc/passwd", "//etc/passwd", "/%00", "/%ff%fe",
    "/api/jobs/..%2f..%2fstudio.sqlite", "/api/files/%2e%2e/content", "/a" * 2000, "/api/models/..%2f..%2fetc",
    "/api/evaluation/%2fetc%2fpasswd", "/api/jobs/0123456789abcdef/samples/../../x.png",
    "/api/jobs/0123456789abcdef/x.png"])
def test_no_address_leads_to_a_file_of_others(idle, path):
    answer = idle.get(HOST + path)
    refused(answer, answer.status_code)
    assert answer.status_code in (404, 422)


def test_the_forward_encoder_answers_as_the_library_does(client, run):
    model = orn.load(run)
    id = asked(client, kind="generate", count=1, nfe=2)["samples"][0]["id"]
    query = {"picture": id, "t": 0.5, "row": 2, "column": 3}
    kernel = client.get("/api/forward/kernel", params=query).json()
    level = model.schedule.level(torch.tensor(0.5))
    assert kernel["mean"] == pytest.approx(float(level.signal) * kernel["x"])
    assert kernel["variance"] == pytest.approx(float(level.noise) ** 2)
    after = client.get("/api/forward/posterior", params=query | {"s": 0.3}).json()
    one = torch.tensor([[[[after["x"]]]]], dtype=torch.float64)
    law = orn.Encoder(model.schedule).posterior(one, torch.full_like(one, after["z"]), 0.3, 0.5)
    assert (after["mean"], after["variance"]) == (pytest.approx(float(law.mean)), pytest.approx(float(law.variance)))
    value, density = (np.array(after["curve"][name]) for name in ("value", "density"))
    assert np.trapezoid(density, value) == pytest.approx(1, abs=1e-3)
    curves = client.get("/api/forward/schedule", params={"points": 11}).json()
    assert np.array(curves["signal"]) ** 2 + np.array(curves["noise"]) ** 2 == pytest.approx(1)
    refused(client.get("/api/forward/posterior", params=query | {"s": 0.6}), 422, "s")
    refused(client.get("/api/forward/posterior", params=query | {"s": 0, "t": 5e-324}), 422, "t")
    refused(client.get("/api/forward/kernel", params=query | {"row": 8}), 422, "row", 7)


def test_the_gallery_is_searched_page_by_page_and_has_a_bin(client):
    for seed in range(3):
        asked(client, kind="generate", count=2, nfe=2, seed=seed, label=str(seed))
    first = client.get("/api/gallery", params={"limit": 4}).json()
    rest = client.get("/api/gallery", params={"limit": 4, "before": first["next"]}).json()
    assert (first["total"], len(first["pictures"]), len(rest["pictures"]), rest["next"]) == (6, 4, 2, None)
    assert len({one["id"] for one in first["pictures"] + rest["pictures"]}) == 6
    found = client.get("/api/gallery", params={"q": "digits auto", "label": "1", "seed": "1"}).json()["pictures"]
    assert len(found) == 2
    id = found[0]["id"]
    refused(client.delete(f"/api/gallery/{id}"), 409)
    client.patch(f"/api/gallery/{id}", json={"deleted": True})
    assert client.get("/api/gallery").json()["total"] == 5
    assert [one["id"] for one in client.get("/api/gallery", params={"bin": True}).json()["pictures"]] == [id]
    assert client.delete(f"/api/gallery/{id}").status_code == 204
    refused(client.get(f"/api/gallery/{id}"), 404)
    refused(client.get(found[0]["url"]), 404)


def test_the_document_of_the_routes_names_every_error_and_no_other_host(idle):
    document = idle.get("/openapi.json")
    assert "http://" not in document.text
    assert "https://" not in document.text
    for path, methods in document.json()["paths"].items():
        for method, route in methods.items():
            assert route["description"], path
            assert "422" in route["responses"], f"{method} {path}"


def test_a_database_of_an_earlier_version_is_brought_to_this_one(run, folder):
    """Migrations give the tables that the code has, and lose no training."""
    from alembic.autogenerate import compare_metadata
    from alembic.command import downgrade
    from alembic.config import Config
    from alembic.migration import MigrationContext

    from ornstein.studio.store import Store
    from ornstein.studio.tables import metadata, processes

    studio = Studio(run, folder)
    with studio.store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    studio.store.insert(processes, {"id": "0" * 16, "name": "old", "request": {}, "status": "done", "created": 0.0})
    with studio.store.engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "ornstein.studio:migrations")
        config.attributes["connection"] = connection
        downgrade(config, "0001")
        assert connection.execute(text("SELECT name FROM trainings")).scalar() == "old"
    again = Store(folder)
    assert again.get(processes, processes.c.name == "old")["kind"] == "train"
    again.close()
    studio.batcher.close()
    studio.store.close()
