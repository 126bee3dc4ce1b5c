"""Evaluations that the studio begins: in turn with trainings, found again after a restart, written into the run."""

from __future__ import annotations

import shutil
import time

import pytest
from fastapi.testclient import TestClient

from ornstein.studio.limits import Limits
from ornstein.studio.server import create_app
from ornstein.studio.state import Studio
from test_studio import HOST, opened, refused, run

__all__ = ["run"]  # a fixture


def test_an_evaluation_waits_for_a_training_and_is_begun_once(run, tmp_path):
    """Its command writes the report into the run, where it is then read; what the process says is told."""
    folder = tmp_path / "data"
    studio = Studio(run, folder, limits=Limits(trainings=2))
    studio.processes._closed = True  # nothing is started
    with TestClient(create_app(studio), HOST) as client:
        training = client.post("/api/trainings", json={"name": "points", "data": "moons"}).json()
        first = client.post("/api/evaluations", json={"model": "digits", "nfe": 4})
        again = client.post("/api/evaluations", json={"model": "digits"})
        assert (first.status_code, again.status_code) == (202, 200)
        assert first.json()["id"] == again.json()["id"]
        found = client.get(first.headers["Location"]).json()
        assert (found["status"], found["position"]) == ("waiting", 1)
        assert found["command"] == f"ornstein evaluate {run} --out {run}/report --seed 0 --nfe 4"
        refused(client.post("/api/trainings", json={"name": "more", "data": "moons"}), 503, "trainings", 2)
        refused(client.get(f"/api/trainings/{found['id']}"), 404, "id")
        refused(client.get("/api/report/digits"), 404)
        (folder / "logs" / f"{found['id']}.jsonl").write_text(
            '{"event": "part", "part": "samples", "share": 0.25, "left": 60}\n')
        found = client.get(f"/api/evaluations/{found['id']}").json()
        assert (found["part"], found["progress"]) == ("samples", 0.25)
        for kind, id in (("trainings", training["id"]), ("evaluations", found["id"])):
            assert client.delete(f"/api/{kind}/{id}").json()["status"] == "stopped"
        assert [one["status"] for one in client.get("/api/evaluations").json()["evaluations"]] == ["stopped"]
    with opened(run / "model.safetensors", folder) as client:
        refused(client.post("/api/evaluations", json={}), 422, "model")


@pytest.mark.slow
def test_an_evaluation_outlives_the_studio_and_its_report_opens(tmp_path, trained):
    run = tmp_path / "digits"
    shutil.copytree(trained, run)
    body = {"count": 60, "nfe": 4, "likelihood": False}

    def served():
        return TestClient(create_app(Studio(run, tmp_path / "studio")), "http://127.0.0.1")

    with served() as client:
        id = client.post("/api/evaluations", json=body).json()["id"]
        while client.get(f"/api/evaluations/{id}").json()["part"] is None:
            time.sleep(0.2)
    with served() as client:
        assert client.get(f"/api/evaluations/{id}").json()["status"] == "running"
        assert client.delete(f"/api/evaluations/{id}").json()["status"] == "stopping"
        while client.get(f"/api/evaluations/{id}").json()["status"] == "stopping":
            time.sleep(0.1)
        assert client.get(f"/api/evaluations/{id}").json()["status"] == "stopped"
        again = client.post("/api/evaluations", json=body).json()["id"]
        with client.stream("GET", f"/api/evaluations/{again}/events") as stream:
            kinds = {line for line in stream.iter_lines() if line.startswith("event: ")}
        assert {"event: status", "event: progress", "event: done"} <= kinds
        assert client.get("/api/models").json()["models"][0]["evaluated"]
        assert client.get("/api/evaluation/digits").json()["drawn"]["count"] == 60
        page = client.get("/api/report/digits")
        assert "sandbox" in page.headers["content-security-policy"]
        assert page.text.startswith("<!doctype html>")
