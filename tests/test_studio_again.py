"""Pictures that the studio drew are drawn again by the command line, bit for bit, from what they say of themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import event

import ornstein as orn
from ornstein.diffusion.samplers.choice import Choice
from test_figures import model_of
from test_studio import asked, opened, run

__all__ = ["run"]  # a fixture

TIMES = (1.0, 0.7, 0.3, 0.0)


@pytest.mark.parametrize("name", ["grey", "vectors"])
def test_a_picture_of_the_studio_is_drawn_again_by_the_command_line(command, tmp_path, name):
    """Also when the model was tuned anew since: the choice that drew it travels in the picture."""
    model = model_of(name)
    angles = tuple(float(model.schedule.level(torch.tensor(t, dtype=torch.float64)).angle) for t in TIMES)
    model.tuned = {3: Choice(3, "ddim", TIMES, angles)}
    run = tmp_path / "run"
    run.mkdir()
    orn.save(model, run)
    with opened(run, tmp_path / "data") as client:
        job = asked(client, kind="generate", count=2, nfe=3, seed=2**64 - 1)
        assert job["status"] == "done", job["error"]
        (tmp_path / "one.png").write_bytes(client.get(job["samples"][1]["url"]).content)
    code, said, _ = command("info", "one.png")
    assert code == 0
    assert "3 calls: ddim" in said
    assert str(run) in said
    assert job["id"] in said
    assert "ornstein sample --again one.png" in said
    model.tuned = {}
    orn.save(model, run)
    code, said, _ = command("sample", "--again", "one.png", "--out", "again.png")
    assert code == 0
    assert "the same, bit for bit" in said
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "again.png") as again:
        assert np.array_equal(np.array(one), np.array(again))


def test_an_edit_of_the_studio_says_that_it_is_one(command, tmp_path):
    model, run = model_of("grey"), tmp_path / "run"
    run.mkdir()
    orn.save(model, run)
    with opened(run, tmp_path / "data") as client:
        first = asked(client, kind="generate", count=1, nfe=2)["samples"][0]
        job = asked(client, kind="vary", picture=first["id"], count=1, nfe=2)
        (tmp_path / "one.png").write_bytes(client.get(job["samples"][0]["url"]).content)
    code, said, _ = command("info", "one.png")
    assert code == 0
    assert said.startswith("edited picture")
    code, _, err = command("sample", "--again", "one.png")
    assert code == 2
    assert "from another picture" in err


def test_the_list_of_jobs_asks_the_database_as_often_for_many_as_for_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr("ornstein.studio.processes.POLL_INTERVAL", 3600)  # whose queries would be counted too
    with opened(run, tmp_path / "data") as client:
        asked_for = list[str]()
        event.listen(client.app.state.studio.store.engine, "before_cursor_execute",
                     lambda *given: asked_for.append(given[2]))
        seen = []
        for _ in range(2):
            asked(client, kind="generate", count=2, nfe=2)
            asked_for.clear()
            jobs = client.get("/api/jobs").json()["jobs"]
            seen.append((len(jobs), {len(job["samples"]) for job in jobs}, len(asked_for)))
        assert seen[0][2] == seen[1][2]
        assert [(count, samples) for count, samples, _ in seen] == [(1, {2}), (2, {2})]
