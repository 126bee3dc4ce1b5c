"""Traces in the studio: a stretch that is unknown is filled, the rest stays, and numbers come back as they were."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.studio.rebuild import rebuild
from test_studio import asked, opened, refused, untrained
from test_studio_page import AXE, Served, watched

LENGTH = 24


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of traces in two channels."""
    spec = orn.DataSpec("waves", "array", (2, LENGTH), 0.0, 10.0, None)
    return untrained(tmp_path_factory.mktemp("runs") / "waves", spec, 8)


@pytest.fixture(scope="module")
def client(run, tmp_path_factory):
    with opened(run, tmp_path_factory.mktemp("data")) as client:
        yield client


def sent(client, values):
    file = io.BytesIO()
    np.save(file, values)
    return client.post("/api/files", content=file.getvalue()).json()["id"]


def test_a_database_made_anew_keeps_the_bands(run, tmp_path):
    rows = np.random.default_rng(0).uniform(1, 9, (1, 2, LENGTH))
    with opened(run, tmp_path) as client:
        job = asked(client, kind="fill", picture=sent(client, rows), unknown=[{"first": 5, "last": 11}], count=2, nfe=2)
    rebuild(tmp_path)
    with opened(run, tmp_path) as client:
        assert client.get(f"/api/jobs/{job['id']}").json()["result"] == job["result"]


def test_a_stretch_is_filled_as_the_library_fills_it_and_the_rest_stays(client, run):
    """The known part to rounding, the rest as `ornstein.inpaint` draws it, and bands that are the draws' quantiles."""
    rows = np.random.default_rng(0).uniform(1, 9, (3, 2, LENGTH))
    id = sent(client, rows)
    job = asked(client, kind="fill", picture=id, row=1, unknown=[{"first": 5, "last": 11, "channel": 1}],
                count=3, nfe=3, seed=2)
    assert job["status"] == "done", job["error"]
    model, known = orn.load(run), torch.ones(2, LENGTH, dtype=torch.bool)
    known[1, 5:12] = False
    drawn = model.data.decode(orn.inpaint(model, model.data.encode(rows[1:2]), known, 3, nfe=3, seed=2))
    values = np.array(job["result"]["values"])
    assert np.array_equal(values, drawn)
    assert np.allclose(values[:, known], rows[1][known], atol=1e-5)
    bands = job["result"]["bands"]
    assert np.allclose(bands["quantiles"], np.quantile(values, bands["levels"], 0))
    assert np.allclose(bands["mean"], values.mean(0))
    sample = job["samples"][2]
    assert np.array_equal(np.load(io.BytesIO(client.get(sample["url"].replace(".png", ".npy")).content)), values[2])
    assert client.get(f"/api/files/{sample['id']}/values").json()["values"] == values[2].tolist()
    assert asked(client, kind="vary", picture=sample["id"], count=1, nfe=2)["status"] == "done"
    client.patch(f"/api/gallery/{sample['id']}", json={"deleted": True})
    assert client.delete(f"/api/gallery/{sample['id']}").status_code == 204
    refused(client.get(sample["url"].replace(".png", ".npy")), 404)


def test_what_is_nan_is_unknown_without_a_word(client):
    values = np.full((2, LENGTH), 4.0)
    values[0, 3] = np.nan
    id = sent(client, values)
    assert client.get(f"/api/files/{id}/values").json()["values"][0][2:5] == [4, None, 4]
    assert asked(client, kind="fill", picture=id, count=1, nfe=2)["status"] == "done"


@pytest.mark.parametrize(("stretch", "limit"), [
    ({"first": 0, "last": LENGTH}, LENGTH - 1), ({"first": 4, "last": 3}, LENGTH - 1),
    ({"first": 0, "last": 3, "channel": 2}, 1), ({"first": -1, "last": 3}, None), ({"first": 0}, None)])
def test_a_stretch_that_is_not_in_the_sample_is_refused(client, stretch, limit):
    body = {"kind": "fill", "picture": sent(client, np.ones((2, LENGTH))), "unknown": [stretch]}
    answer = refused(client.post("/api/jobs", json=body), 422, limit=limit)
    assert answer.json()["field"].startswith("unknown")


def test_a_sample_of_another_shape_says_what_is_wanted(client):
    refused(client.get(f"/api/files/{sent(client, np.ones((2, 7)))}/values"), 422, "id")
    refused(client.get(f"/api/files/{sent(client, np.ones((2, 2, LENGTH)))}/values?row=2"), 422, "row", 1)
    failed = asked(client, kind="fill", picture=sent(client, np.ones((2, LENGTH))), count=1, nfe=2)
    assert (failed["status"], failed["error"]["field"]) == ("failed", "unknown")


def test_a_stretch_is_marked_on_the_page_by_dragging_or_by_numbers(browser, run, tmp_path):
    np.save(tmp_path / "one.npy", np.random.default_rng(0).uniform(1, 9, (2, LENGTH)))
    studio = Served(run, tmp_path / "studio")
    page, trouble = watched(browser, studio.url)
    try:
        page.goto(f"{studio.url}#edit")
        page.locator("#panel-edit input[type=file]").set_input_files(tmp_path / "one.npy")
        curve = page.locator("#panel-edit .u-over").first
        curve.scroll_into_view_if_needed()
        box = curve.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 30, steps=3)
        page.mouse.up()
        places = [page.get_by_label(name) for name in ("First position", "Last position")]
        for place, share in zip(places, (0.25, 0.5), strict=True):
            assert abs(int(place.input_value()) - share * (LENGTH - 1)) <= 1
        places[0].fill(str(LENGTH))
        page.get_by_label("How many answers").fill("2")
        page.get_by_role("slider", name="Network calls per answer").fill("5")
        page.get_by_role("button", name="Fill", exact=True).click()
        page.get_by_text(f"it must be from 0 to {LENGTH - 1}").wait_for()
        places[0].fill("4")
        page.get_by_label("Channel", exact=True).select_option("1")
        page.get_by_role("button", name="Fill", exact=True).click()
        page.get_by_text("Possible values").wait_for()
        assert page.get_by_role("img", name="Mean and bands of the answers").count() == 2
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("axe.run('#panel-edit', {resultTypes: ['violations']})")["violations"]
        assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")]
        assert [line for line in trouble if "422" not in line] == []
    finally:
        page.close()
        studio.close()
