"""Averages of the weights: profiles, their inner products, and any length after the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ornstein as orn
from ornstein.training.average import exponent, overlap, reconstruction, update
from ornstein.training.run import Run

widths = st.floats(0.01, 0.25)
ends = st.floats(10, 1000)


@given(widths, ends, widths, ends)
def test_the_inner_product_of_two_profiles_is_its_integral(one, first, other, last):
    g, h = exponent(one), exponent(other)
    s = min(first, last)
    x, weight = np.polynomial.legendre.leggauss(200)
    x, weight = (x + 1) * s / 2, weight * s / 2
    product = (g + 1) / first * (x / first) ** g * (h + 1) / last * (x / last) ** h
    assert overlap((first, g), (last, h)) == pytest.approx(float(weight @ product), rel=1e-6, abs=1e-300)


@given(widths, widths)
def test_a_stored_profile_comes_back_as_it_is(one, other):
    stored = [(100.0, exponent(one)), (100.0, exponent(other)), (50.0, exponent(one))]
    shares, missed = reconstruction(stored, stored[0])
    assert missed < 1e-4
    together = sum(share for share, profile in zip(shares, stored, strict=True) if profile == stored[0])
    if abs(one - other) > 0.02:
        assert together == pytest.approx(1, abs=1e-3)


def tracked(weights, gamma):
    average = torch.zeros_like(weights[0])
    for step, value in enumerate(weights, 1):
        update([average], [value], step, gamma)
    return average


@pytest.mark.parametrize("width", [0.03, 0.08, 0.15])
def test_other_lengths_are_put_together_from_two_that_were_kept(width):
    """On a random walk of 500 weights and 1,600 steps, from 8 snapshots: within 8 % of how far averages lie apart."""
    walk = torch.randn(1600, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(0)
    kept = [(place, exponent(each)) for place in range(200, 1601, 200) for each in (0.05, 0.1)]
    shares, missed = reconstruction(kept, (1600, exponent(width)))
    found = sum(share * tracked(walk[:place], gamma) for share, (place, gamma) in zip(shares, kept, strict=True))
    wanted, scale = tracked(walk, exponent(width)), (tracked(walk, exponent(0.05)) - walk[-1]).norm()
    assert (found - wanted).norm() / scale < 0.08
    assert missed < 0.12


def test_a_constant_and_a_ramp_are_averaged_as_the_profile_says():
    """Mean of x^g on [0, t] is t (g + 1) / (g + 2)."""
    kept = [(place, exponent(each)) for place in range(100, 801, 100) for each in (0.05, 0.1)]
    g = exponent(0.08)
    shares, _ = reconstruction(kept, (800, g))
    assert float(shares.sum()) == pytest.approx(1, abs=2e-3)
    ramp = sum(share * place * (h + 1) / (h + 2) for share, (place, h) in zip(shares, kept, strict=True))
    assert ramp == pytest.approx(800 * (g + 1) / (g + 2), rel=2e-3)


FAST = orn.Settings(options={"widths": [8], "depths": [1]}, batch=20, precision="fp32", linear="diagonal")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("average") / "run"
    orn.Trainer("digits", images=320, out=path, settings=FAST).fit()
    return path


def test_a_run_keeps_averages_and_gives_its_own_back(run):
    places = Run(run).snapshots.image_counts()
    assert places == [40, 80, 120, 160, 200, 240, 280, 320]
    model, again = orn.load(run), orn.reaverage(run, 0.05)
    assert again[1] < 1e-6
    for mine, kept in zip(model.network.parameters(), again[0].network.parameters(), strict=True):
        torch.testing.assert_close(kept, mine, rtol=1e-5, atol=1e-6)
    wide = orn.reaverage(run, 0.15)[0]
    assert not torch.equal(next(wide.network.parameters()), next(model.network.parameters()))


def test_a_resumed_run_keeps_the_same_averages(run, tmp_path):
    trainer = orn.Trainer("digits", images=320, out=tmp_path, settings=FAST)

    def stop(event):
        if getattr(event, "images", 0) >= 20:
            trainer.stop()

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(stop)
    stray = tmp_path / "averages" / "000000000310.safetensors"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes((run / "averages" / "000000000320.safetensors").read_bytes())  # of a stretch that was lost
    orn.Trainer("digits", out=tmp_path, resume=True).fit()
    files = sorted((run / "averages").iterdir())
    assert [file.name for file in files] == sorted(file.name for file in (tmp_path / "averages").iterdir())
    assert all(file.read_bytes() == (tmp_path / "averages" / file.name).read_bytes() for file in files)


def test_the_command_compares_widths_and_writes_one(run, tmp_path, command):
    _, out, _ = command("average", run)
    assert "smallest at" in out
    assert out.count("width 0") == 8
    _, out, _ = command("average", run, "--width", "0.1", "--out", tmp_path / "wide.safetensors")
    assert "average of width 0.1" in out
    assert orn.load(tmp_path / "wide.safetensors").shape == (1, 8, 8)


@pytest.mark.parametrize(("words", "line"), [
    (["--width", "0.5"], "average is 0.5; the relative width of the average must lie in (0, 0.28]"),
    (["--width", "0.1", "--images", "150"], "images is 150; averages were kept at 40, 80"),
    (["--out", "x.safetensors"], "no width is given"),
    (["--width", "0.1", "--out", "x.png"], "must end in .safetensors"),
])
def test_mistakes_are_one_line(run, command, words, line):
    code, _, error = command("average", run, *words)
    assert code == 2
    assert line in error
    assert error.count("\n") == 1


def test_a_run_without_averages_says_so(tmp_path):
    orn.Trainer("digits", images=40, out=tmp_path, settings=FAST.replace(snapshots=0)).fit()
    with pytest.raises(ValueError, match=r"holds no averages; train with snapshots greater than 0"):
        orn.reaverage(tmp_path, 0.1)
