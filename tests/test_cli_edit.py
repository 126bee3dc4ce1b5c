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
    (["fill", "digit.png", "--mask", "digits.npy"], "that are no mask; it must hold true and false"),
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
    np.save("holed.npy", np.where(np.arange(64) == 5, np.nan, 1.0).reshape(1, 8, 8))
    code, _, err = command("edit", trained, *words, *([] if "--out" in words else ["--out", "a.png"]))
    assert code == 2
    assert reason in err
    assert err.count("\n") == 1
