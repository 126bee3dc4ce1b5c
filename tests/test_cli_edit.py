"""`ornstein edit`: from a file to draws of it, in the data's own values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ornstein as orn
from ornstein.data import read_picture


@pytest.fixture
def digit(tmp_path) -> np.ndarray:
    """A digit as a picture file, (8, 8) from 0 to 255, and a mask for its lower half."""
    values = orn.load_data("digits").batch([3])[0][0, 0]
    pixels = ((values + 1) * 127.5).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    painted = np.zeros((8, 8), np.uint8)
    painted[4:] = 255
    Image.fromarray(painted).save(tmp_path / "mask.png")
    return pixels


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """A model of traces (2, 16), channels last in the user's array, on scales of their own, and traces."""
    place = tmp_path_factory.mktemp("traces") / "model.safetensors"
    rng = np.random.default_rng(0)
    waves = np.sin(rng.uniform(0, 6, (60, 1, 2)) + np.arange(16)[:, None] / 3) * [1.0, 50.0] + [0.0, 300.0]
    data = orn.load_data(waves, layout="LC")
    network = orn.UNet(data.spec.shape, widths=[8], depths=[1])
    orn.save(orn.NetworkDenoiser(network, orn.Cosine(), data.spec.shape, data_std=0.6, data=data.spec), place)
    return place, waves


def test_white_is_painted_anew_and_the_rest_stays(command, trained, digit, tmp_path):
    code, out, err = command("edit", trained, "fill", "digit.png", "--mask", "mask.png", "--out", "new", "--count", 3,
                             "--nfe", 4, "--label", "7", "--guidance", 2)
    assert (code, err) == (0, "")
    assert out == "3 draws in new\n"
    drawn = [read_picture(tmp_path / "new" / f"{number:05d}.png", (1, 8, 8))[0] for number in range(3)]
    for one in drawn:
        assert np.abs(one[:4].astype(int) - digit[:4]).max() <= 8  # of 17 levels, half of one
    assert not np.array_equal(drawn[0], drawn[1])
    facts = json.loads(Image.open("new/00000.png").text["ornstein"])
    assert (facts["edit"], facts["of"], facts["label"]) == ("fill", ["digit.png"], "7")


def test_what_is_transparent_is_unknown_and_another_size_is_said(command, trained, digit):
    clear = np.where(np.arange(16)[:, None] < 8, 255, 0).repeat(16, 1).astype(np.uint8)
    picture = Image.fromarray(digit).resize((16, 16), Image.Resampling.NEAREST).convert("RGB")
    picture.putalpha(Image.fromarray(clear))
    picture.save("holed.png")
    code, out, err = command("edit", trained, "fill", "holed.png", "--out", "sheet.webp", "--count", 2, "--nfe", 2)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "holed.png is 16 x 16 pixels: resized to 8 x 8 as training pictures were"
    assert Image.open("sheet.webp").width > 300


def test_gaps_of_arrays_are_filled_in_their_own_values_and_layout(command, traces):
    run, waves = traces
    gaps = waves[:2].copy()
    gaps[0, 4:9, 0] = gaps[1, :, 1] = np.nan
    np.savez("gaps.npz", x=gaps)
    assert command("edit", run, "fill", "gaps.npz", "--out", "filled.npz", "--count", 7, "--nfe", 3)[0] == 0
    filled = np.load("filled.npz")
    assert filled["x"].shape == (2, 7, 16, 2)
    assert np.array_equal(filled["known"], ~np.isnan(gaps))
    for draw in filled["x"].swapaxes(0, 1):
        assert np.array_equal(draw[filled["known"]], gaps[filled["known"]].astype(draw.dtype))
    assert np.allclose(filled["mean"], filled["x"].mean(1))
    assert np.allclose(filled["std"], filled["x"].std(1), atol=1e-4)
    assert filled["levels"].tolist() == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.allclose(filled["quantiles"][2], np.median(filled["x"], 1))
    assert filled["mean"][1, :, 1].mean() > 100  # the second channel's own scale
    assert command("edit", run, "fill", "gaps.npz", "--out", "bands.png", "--count", 3, "--nfe", 2)[0] == 0
    np.save("whole.npy", waves[:2])
    np.save("mask.npy", ~np.isnan(gaps))
    command("edit", run, "fill", "whole.npy", "--mask", "mask.npy", "--out", "same.npz", "--count", 7, "--nfe", 3)
    assert np.array_equal(np.load("same.npz")["x"], filled["x"])


@pytest.fixture
def bodies(tmp_path):
    """A model of a table with whole numbers and classes, and rows with gaps, their columns in another order."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    height = rng.normal(172.0, 9, 200).round(1)
    data = orn.load_data(pandas.DataFrame({
        "height": height, "age": rng.integers(18, 80, 200), "sport": rng.integers(0, 2, 200),
        "kind": np.where(height > 172, "large", "small")}).rename(columns={"kind": "label"}))
    network = orn.MLP(data.spec.shape, width=8, depth=1, classes=2)
    for weight in network.parameters():  # so that the class makes a difference
        torch.nn.init.normal_(weight, 0, 0.3)
    orn.save(orn.NetworkDenoiser(network, orn.Cosine(), data.spec.shape, data_std=0.4, data=data.spec),
             tmp_path / "m.safetensors")
    rows = pandas.DataFrame({"id": ["a", "b", "c"], "age": [30, None, None], "label": ["small", "large", None],
                             "height": [None, 180.3, None], "sport": [1, 0, 1]})
    rows.to_csv(tmp_path / "gaps.csv", index=False)
    rows.to_parquet(tmp_path / "gaps.parquet")
    return pandas, rows


def test_empty_cells_of_a_table_are_filled_with_bands_by_the_names_of_its_columns(command, bodies):
    pandas, rows = bodies
    words = ("edit", "m.safetensors", "fill", "gaps.csv", "--count", 9, "--nfe", 3)
    code, out, err = command(*words, "--out", "full.csv")
    assert (code, err) == (0, "")
    assert "kept as they are: id" in out
    assert "column 'label' gives the label of each row" in out
    full = pandas.read_csv("full.csv")
    bands = ["mean", "q05", "q25", "q50", "q75", "q95"]
    assert list(full) == ["id", "age", *(f"age_{band}" for band in bands), "label",
                          "height", *(f"height_{band}" for band in bands), "sport"]
    for name in rows:
        there = rows[name].notna()
        assert (full[name][there] == rows[name][there]).all()
    assert full["age"].dtype == np.int64
    assert (full[["age_q05", "age_q50", "age_q95"]].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert full.loc[0, [f"age_{band}" for band in bands]].tolist() == [30] * 6
    # The same numbers as for anyone who gives arrays in the order of the training, and the class of each row.
    command(*words, "--out", "draws.npz")
    drawn = np.load("draws.npz")
    assert np.allclose(full[["height_mean", "age_mean"]], drawn["mean"][:, :2], rtol=1e-6)
    model, x = orn.load("m.safetensors"), rows[["height", "age", "sport"]].to_numpy(np.float64)
    told = model.data.decode(orn.inpaint(model, model.data.encode(x), None, 9, nfe=3, condition=[1, 0, -1]))
    assert np.allclose(drawn["x"].reshape(-1, 3), told, rtol=1e-5)
    command("edit", "m.safetensors", "fill", "gaps.parquet", "--count", 9, "--nfe", 3, "--out", "full.parquet")
    pandas.testing.assert_frame_equal(pandas.read_parquet("full.parquet"), full, check_dtype=False)


def test_what_a_table_cannot_be_filled_from_is_one_line(command, bodies):
    _, rows = bodies
    rows.drop(columns="age").to_csv("less.csv", index=False)
    rows.assign(age=["old", None, "young"]).to_csv("text.csv", index=False)
    rows.assign(age_mean=1).to_csv("taken.csv", index=False)
    rows.assign(label=["small", "huge", None]).to_csv("classes.csv", index=False)
    for words, reason in (
            (["less.csv"], "less.csv lacks columns that this model was trained on: age; add them"),
            (["text.csv"], "text.csv holds text in the columns age; write numbers, or nothing"),
            (["taken.csv"], "taken.csv has a column 'age_mean', a name that the result uses; rename"),
            (["classes.csv"], "label 'huge' is none of the classes large, small"),
            (["gaps.csv", "--label", "large"], "--label is given, and gaps.csv has the label of each row"),
            (["gone.csv"], "gone.csv does not exist; name a picture, a table")):
        code, _, err = command("edit", "m.safetensors", "fill", *words, "--out", "o.csv")
        assert (code, err.count("\n")) == (2, 1)
        assert reason in err


def test_gaps_in_lists_of_numbers_are_filled(command, traces):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    run, waves = traces
    gaps = [[[None if place < 4 else value for value in point] for place, point in enumerate(wave.tolist())]
            for wave in waves[:2]]
    pq.write_table(pa.table({"x": gaps, "station": ["N", "S"]}), "gaps.parquet")
    assert command("edit", run, "fill", "gaps.parquet", "--out", "full.parquet", "--count", 3, "--nfe", 2)[0] == 0
    full = pq.read_table("full.parquet").to_pydict()
    assert list(full) == ["x", "x_mean", "x_q05", "x_q25", "x_q50", "x_q75", "x_q95", "station"]
    assert np.array_equal(np.array(full["x"])[:, 4:], waves[:2, 4:])
    assert np.isfinite(full["x_q95"]).all()
    assert (np.array(full["x_q05"])[:, :4] <= np.array(full["x_q95"])[:, :4]).all()


def test_a_measurement_in_the_datas_own_values_is_undone(command, traces):
    run, waves = traces
    np.save("coarse.npy", waves[:1].reshape(1, 4, 4, 2).mean(2))
    code, out, err = command("edit", run, "restore", "coarse.npy", "--operator", "down=4", "--noise", 0, "--out",
                             "fine.npz", "--count", 4, "--nfe", 3)
    assert (code, err) == (0, "")
    fine = np.load("fine.npz")["x"]
    assert np.allclose(fine.reshape(1, 4, 4, 4, 2).mean(3), np.load("coarse.npy")[:, None], atol=0.02)
    assert out == "4 draws in fine.npz\n"


def test_latents_and_walks(command, trained, digit):
    assert command("edit", trained, "invert", "digit.png", "--out", "z.npz", "--nfe", 20)[0] == 0
    model = orn.load(trained)
    back = model.data.decode(orn.sample(model, z=torch.from_numpy(np.load("z.npz")["z"]), nfe=20))
    assert np.abs(back[0, 0] / 16 * 255 - digit).max() <= 16
    assert command("edit", trained, "interpolate", "digit.png", "digit.png", "--out", "walk", "--count", 3, "--nfe", 8,
                   )[0] == 0
    assert np.array_equal(read_picture(Path("walk/00000.png"), (1, 8, 8)),
                          read_picture(Path("walk/00002.png"), (1, 8, 8)))
    assert command("edit", trained, "vary", "digit.png", "--out", "same", "--count", 1, "--strength", 0)[0] == 0
    assert np.array_equal(read_picture(Path("same/00000.png"), (1, 8, 8)),
                          read_picture(Path("walk/00000.png"), (1, 8, 8)))


@pytest.mark.parametrize(("words", "reason"), [
    (["fill", "digit.png"], "nothing of digit.png is unknown; name a --mask"),
    (["fill", "digit.png", "--mask", "digit.png"], "of its pixels are neither black nor white"),
    (["fill", "digit.png", "--mask", "large.png"], "large.png is 9 x 7 pixels; a mask must be 8 x 8"),
    (["fill", "digit.png", "--mask", "short.npy"], "short.npy has shape (3,); a mask must have that of a sample"),
    (["fill", "digit.png", "--mask", "digits.npy"], "values that are not a mask; it must hold true and false"),
    (["fill", "digit.png", "--mask", "broken.png"], "broken.png cannot be used: not a readable picture"),
    (["fill", "holed.npy", "--mask", "known.npy"], "holed.npy holds 1 values that are unknown where known.npy says"),
    (["fill", "none.npy"], "none.npy holds float64 of shape (0, 1, 8, 8), which is empty"),
    (["vary", "far.npy"], "too far from those of the data, which reach from 0 to 16"),
    (["restore", "digit.png", "--operator", "blurr=2"], "--operator 'blurr' is unknown; did you mean 'blur'?"),
    (["restore", "digit.png", "--operator", "blur=1", "--noise", "nan"], "--noise is nan; it must be a standard"),
    (["vary", "digit.png", "--label", "3", "--guidance", "nan"], "--guidance is nan; it must be a finite number"),
    (["vary", "digit.png", "--nfe", "0"], "--nfe is 0; it must be a whole number"),
    (["vary", "digit.png", "--out", "v.csv"], "are not rows of a table; name a .npz file"),
    (["vary", "digits.npy", "--count", "9999999999"], "--count is 9999999999; so many samples of"),
    (["restore", "digit.png"], "--operator is missing"), (["fil", "digit.png"], "did you mean 'fill'"),
    (["restore", "large.png", "--operator", "down=2"], "large.png is 9 x 7 pixels; such a measurement"),
    (["restore", "digit.png", "--operator", "blur=1", "--noise=-1"], "--noise is -1; it must be a standard deviation"),
    (["vary", "digit.png", "--strength", "2"], "--strength is 2; it must be from 0"),
    (["vary", "digit.png", "--mask", "mask.png"], "--mask is given, which is for fill and not for vary"),
    (["vary", "gone.png"], "gone.png does not exist"), (["vary", "digit.png", "--label", "77"], "allowed: 0, 1, 2"),
    (["vary", "digit.png", "--guidance", "2"], "--guidance is 2, but there is nothing to guide towards"),
    (["vary", "digit.png", "--count", "99999999999"], "GiB of memory"),
    (["vary", "holed.npy"], "holed.npy has 1 values that are unknown, and vary needs all"),
    (["vary", "short.npy"], "short.npy holds bool of shape (3,)"),
    (["vary", "infinite.npy"], "infinite.npy holds 64 infinite values"),
    (["interpolate", "digit.png"], "interpolate takes 2 INPUTs, and 1 are given"),
    (["invert", "digit.png", "--count", "2"], "--count is 2, but a sample has one latent"),
    (["invert", "digit.png", "--out", "folder"], "name a .png file to see them drawn")])
def test_what_cannot_be_is_one_line(command, trained, digit, words, reason):  # noqa: ARG001
    Image.new("L", (9, 7)).save("large.png")
    np.save("short.npy", np.ones(3, bool))
    np.save("digits.npy", orn.load_data("digits").batch([0, 1])[0].numpy())
    np.save("infinite.npy", np.full((1, 8, 8), np.inf))
    np.save("far.npy", np.full((1, 8, 8), 1e300))
    np.save("none.npy", np.ones((0, 1, 8, 8)))
    np.save("known.npy", np.ones((8, 8), bool))
    Path("broken.png").write_bytes(b"no picture")
    np.save("holed.npy", np.where(np.arange(64) == 5, np.nan, 1.0).reshape(1, 8, 8))
    code, _, err = command("edit", trained, *words, *([] if "--out" in words else ["--out", "a.png"]))
    assert code == 2
    assert reason in err
    assert err.count("\n") == 1
