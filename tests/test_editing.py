"""Editing keeps its promises: what is known stays, strengths and ends are what they say, and what cannot be is refused.

How well draws follow the posterior is judged elsewhere.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ornstein as orn
from conftest import normal
from oracles import Shifted, Viewed, mixture
from ornstein.diffusion.editing.operator import OPERATORS, read_operator

SPREAD = torch.tensor([[1.0, 0.4, 0.1, 0.0], [0.4, 0.8, 0.2, 0.1], [0.1, 0.2, 1.2, 0.3], [0.0, 0.1, 0.3, 0.5]],
                      dtype=torch.float64)
GAUSSIAN = orn.ExactGaussian(torch.tensor([0.3, -0.5, 0.0, 1.0]), SPREAD, orn.Cosine())
PICTURES = Viewed(orn.ExactGaussian(torch.zeros(24, dtype=torch.float64), torch.ones(24), orn.Cosine()), (2, 3, 4))
X_ONE = torch.ones(1, 4, dtype=torch.float64)
VECTORS = orn.ExactMixture(torch.ones(3), normal(3, 2, seed=1), torch.full((3,), 0.2), orn.Cosine())


class Counting(orn.Denoiser):
    """Counts the rows that it is asked about, and takes any condition that the other one takes."""

    def __init__(self, inner: orn.Denoiser) -> None:
        super().__init__(inner.schedule, inner.shape)
        self.inner, self.calls = inner, 0

    def forward(self, z, t, condition=None):
        self.calls += 1
        return self.inner(z, t, condition)


@st.composite
def named(draw):
    """A name with a number, and a shape that it is for."""
    name = draw(st.sampled_from(sorted(OPERATORS)))
    blocks = draw(st.integers(1, 3))
    sides = draw(st.lists(st.integers(1, 3).map(lambda side: side * blocks), min_size=1, max_size=3))
    shape = (*([] if name not in ("grey", "mean") and draw(st.booleans()) and len(sides) == 1 else [
        draw(st.integers(1, 3))]), *sides)
    number = {"blur": st.floats(0.1, 3), "down": st.just(blocks), "sums": st.just(blocks), "mask": st.floats(0.01, 1),
              "fourier": st.floats(0.01, 1)}.get(name)
    return name if number is None else f"{name}={draw(number)}", shape


@given(named())
def test_adjoint_and_matrix_are_those_of_the_map(case):
    spec, shape = case
    operator = read_operator(spec, shape)
    x, y = normal(3, *shape), normal(3, *operator.into, seed=1)
    made, back = operator(x), operator.adjoint(y)
    assert made.shape == y.shape
    assert back.shape == x.shape
    for one, other, through, there in zip(x, y, made, back, strict=True):
        assert float((through * other).sum()) == pytest.approx(float((one * there).sum()), rel=1e-9, abs=1e-9)
    assert torch.allclose(x.flatten(1) @ operator.matrix().T, made.flatten(1), atol=1e-12)


def test_names_mean_what_they_say():
    x = normal(2, 3, 8, 12)
    assert torch.allclose(read_operator("down=4", (3, 8, 12))(x), torch.nn.functional.avg_pool2d(x, 4))
    assert torch.allclose(read_operator("sums=4", (3, 8, 12))(x), 16 * torch.nn.functional.avg_pool2d(x, 4))
    assert torch.equal(read_operator("grey", (3, 8, 12))(x), x.mean(1))
    assert torch.equal(read_operator("mean", (3, 8, 12))(x), x.mean(-1))
    assert torch.allclose(read_operator("blur=2", (3, 8, 12))(torch.ones_like(x)), torch.ones_like(x))
    kept = read_operator("mask=0.25", (3, 8, 12)).matrix().sum(0).reshape(3, 96)
    assert kept.sum(1).tolist() == [24, 24, 24]
    assert (kept == kept[0]).all()
    wide = torch.zeros(64)
    wide[0] = 1
    blurred = read_operator("blur=2.5", (64,))(wide[None])[0]
    places = torch.minimum(torch.arange(64), 64 - torch.arange(64))
    assert float((blurred * places**2).sum()) == pytest.approx(2.5**2, rel=1e-3)
    waves = read_operator("fourier=1", (64,))(wide[None])
    assert torch.allclose(waves[0, :, 0], torch.full((33,), 1 / 8))


@pytest.mark.parametrize(("operator", "reason"), [
    (lambda x: x + 1, r"not linear: A\(0\) has values up to 1"),
    (lambda x: x**2, r"not linear: A\(a x \+ b y\) differs from a A\(x\) \+ b A\(y\) by up to"),
    (lambda x: x - x.mean(0), "not linear: a row alone differs"),
    (lambda x: x[:1], "it must return a floating-point tensor"),
    (lambda x: x.numpy(), "it must return a floating-point"),
    (lambda x: x @ torch.ones(3, 2), "operator fails for samples"), (torch.ones(2, 3), r"a matrix must be \(M, 4\)"),
    (torch.full((1, 4), math.nan), "holds 4 values that are not finite"), (3, "it must be a function, a matrix"),
    ("blurr=2", "did you mean 'blur'"), ("blur", "it needs a number, such as blur=1.5"),
    ("down=1.5", "takes a whole number"), ("mean=2", "takes no number"), ("down=3", "does not divide"),
    ("mask=0", "a share above 0"), ("grey", "samples are vectors"),
    (torch.zeros(2, 4), "operator maps every sample to 0"), (lambda x: 0 * x, "operator maps every sample to 0"),
    (orn.Operator((4,), (4,), lambda x: x.abs()), r"not linear: A\(a x"),
    (orn.Operator((4,), (3,), lambda x: x[:, :2]), r"returns measurements of shape \(2,\), but its into is \(3,\)")])
def test_what_is_no_linear_measurement_is_refused(operator, reason):
    with pytest.raises((ValueError, TypeError), match=reason):
        orn.restore(GAUSSIAN, torch.ones(1, 2), operator, 0.1)


def test_a_function_a_matrix_and_an_operator_are_one():
    matrix, y = normal(2, 4), normal(3, 2, seed=1)
    forms = (matrix, matrix.numpy(), lambda x: x @ matrix.T.to(x), lambda x: x.float() @ matrix.T.float(),
             orn.Operator((4,), (2,), lambda x: x @ matrix.T))
    drawn = [orn.restore(GAUSSIAN, y, form, 0.1, 2, nfe=4) for form in forms]
    for other in drawn[1:]:
        assert torch.allclose(other, drawn[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"operator takes samples of shape \(4,\); the model draws \(2,\)"):
        orn.restore(VECTORS, y, forms[-1], 0.1)
    lost = orn.Operator((4,), (2,), lambda x: torch.from_numpy(x.detach().numpy() @ matrix.numpy().T))
    with pytest.raises(ValueError, match="cannot be differentiated"):
        lost.adjoint(y)


@pytest.mark.parametrize(("words", "reason"), [
    ({"noise": -0.1}, r"noise is -0\.1; it must be a standard deviation"), ({"noise": math.nan}, "noise is nan"),
    ({"noise": 1e300}, r"noise is 1e\+300; .* from 0 to 1e\+100"),
    ({"count": 0}, "count is 0"), ({"nfe": 0}, "nfe is 0"), ({"seed": -1}, "seed is -1"), ({"count": 10**12}, "GiB"),
    ({"observation": torch.ones(1, 3)}, r"observation has shape \(1, 3\)"),
    ({"observation": torch.ones(2)}, r"for a single one give observation\[None\]"),
    ({"observation": torch.tensor([[1.0, math.nan]])}, "holds 1 values that are not finite"),
    ({"observation": np.ones((1, 2))}, "it must be a tensor"), ({"condition": [1, 2]}, "condition has 2 entries")])
def test_restore_refuses_by_name(words, reason):
    asked = {"observation": torch.ones(1, 2), "operator": torch.eye(4)[:2], "noise": 0.1} | words
    with pytest.raises((ValueError, TypeError), match=reason):
        orn.restore(GAUSSIAN, **asked)


def test_observations_that_no_data_can_have_given_are_named():
    y = torch.tensor([[0.5, 0.0], [300.0, 0.0]])
    with pytest.warns(RuntimeWarning, match=re.escape("1 of 2 observations are unlike anything that the model knows: "
                                                      "number 1 lies")):
        orn.restore(GAUSSIAN, y, torch.eye(4)[:2], 0.1, nfe=2)


def test_what_is_known_stays_and_what_is_not_may_hold_anything():
    x = normal(3, 2, 3, 4)
    for mask in (torch.rand(3, 4) < 0.5, torch.rand(2, 3, 4) < 0.5, torch.rand(3, 1, 3, 4) < 0.5,
                 (torch.rand(3, 4) < 0.5).int(), (np.arange(12).reshape(3, 4) % 2) == 0):
        known = torch.as_tensor(mask).bool().expand(x.shape)
        holed = torch.where(known, x, torch.tensor([math.nan, math.inf, 1e30])[:, None, None, None])
        drawn = orn.inpaint(PICTURES, holed, mask, 2, nfe=3).unflatten(0, (3, 2))
        assert torch.equal(drawn.transpose(0, 1)[:, known], x[known].expand(2, -1))
        assert ((drawn[:, 0] != drawn[:, 1]) == ~known).all()
    assert torch.equal(orn.inpaint(PICTURES, x, torch.ones(1), 2, nfe=3), x.repeat_interleave(2, 0))


def test_known_values_are_what_a_matrix_that_picks_them_measures_and_need_none(monkeypatch):
    known = torch.arange(24).reshape(2, 3, 4) % 3 != 0
    x = normal(2, 2, 3, 4)
    picked = torch.eye(24, dtype=torch.float64)[known.flatten()]
    drawn = orn.inpaint(PICTURES, x, known, 3, nfe=4)
    same = orn.restore(PICTURES, x[:, known], picked, 0.0, 3, nfe=4)
    assert torch.allclose(drawn, same, atol=1e-4)
    monkeypatch.setattr("ornstein.diffusion.editing.operator.MAX_ENTRIES", 100)  # as of a picture of 60 x 100
    assert torch.equal(orn.inpaint(PICTURES, x, known, 3, nfe=4), drawn)
    with pytest.raises(ValueError, match="its matrix may have at most 100 entries"):
        orn.restore(PICTURES, x[:, known], picked, 0.0, 3, nfe=4)


def test_without_a_mask_nan_is_unknown():
    x = normal(2, 4)
    x[0, 1] = x[1, 2:] = math.nan
    drawn = orn.inpaint(GAUSSIAN, x, count=3, nfe=3)
    assert torch.equal(drawn, orn.inpaint(GAUSSIAN, x, ~x.isnan(), 3, nfe=3))
    assert drawn.isfinite().all()
    assert orn.inpaint(GAUSSIAN, torch.full((1, 4), math.nan), nfe=3).isfinite().all()


def test_a_draw_depends_on_its_seed_its_sample_and_its_number_alone():
    x, mask = normal(3, 4), torch.tensor([True, True, False, False])
    y = x[:, :2]
    for draw in (lambda rows, count, seed: orn.inpaint(GAUSSIAN, x[rows], mask, count, nfe=3, seed=seed),
                 lambda rows, count, seed: orn.restore(GAUSSIAN, y[rows], "mask=0.5", 0.1, count, nfe=3, seed=seed),
                 lambda rows, count, seed: orn.vary(GAUSSIAN, x[rows], 0.5, count, nfe=3, seed=seed)):
        many = draw(slice(3), 5, 7).unflatten(0, (3, 5))
        assert torch.allclose(draw(slice(2), 2, 7).unflatten(0, (2, 2)), many[:2, :2], atol=1e-12)
        assert not torch.allclose(draw(slice(3), 5, 8).unflatten(0, (3, 5)), many, atol=1e-3)


@pytest.mark.parametrize(("x", "mask", "reason"), [
    (torch.ones(1, 4), torch.ones(3), r"mask has shape \(3,\); it must broadcast against x"),
    (torch.ones(1, 4), torch.tensor([0, 1, 2, 1]), "mask is torch.int64 with values from 0 to 2"),
    (torch.ones(1, 4), torch.tensor([0, 0.5, 1, 1]), "it must be bool, or 0 and 1"),
    (torch.ones(1, 4), "mask.png", r"mask is 'mask\.png'; it must be a tensor or an array"),
    (torch.ones(1, 4), [[1, 1], [0]], "it must be a tensor or an array"),
    (torch.ones(1, 4), torch.ones(4, dtype=torch.complex64), "mask is torch.complex64; it must be bool"),
    (torch.tensor([[1, math.nan, 0, 0]]), torch.ones(4), "holds 1 values that are not finite where the mask says"),
    (torch.tensor([[1, math.inf, 0, 0]]), None, "holds 1 values that are not finite"),
    (torch.ones(1, 3), torch.ones(3), r"x has shape \(1, 3\)"), (np.ones((1, 4)), torch.ones(4), "must be a tensor")])
def test_inpaint_refuses_by_name(x, mask, reason):
    with pytest.raises((ValueError, TypeError), match=reason):
        orn.inpaint(GAUSSIAN, x, mask)


def test_strength_goes_from_the_sample_itself_to_a_new_one():
    x = GAUSSIAN.draw(40)
    assert torch.equal(orn.vary(GAUSSIAN, x, 0, 2), x.repeat_interleave(2, 0))
    # Cosine ends in pure noise: of x there is nothing left.
    assert torch.equal(orn.vary(GAUSSIAN, x, 1, nfe=8), orn.vary(GAUSSIAN, x.flip(0), 1, nfe=8))
    apart = [float((orn.vary(GAUSSIAN, x, strength) - x).square().mean()) for strength in (0.05, 0.2, 0.5, 0.8)]
    assert apart == sorted(apart)
    # Noise of strength a is tan(a pi / 2) times the signal; what it hides of a value of variance 1 comes anew.
    one = orn.ExactGaussian(torch.zeros(1), torch.ones(1), orn.Cosine())
    x = one.draw(4000)
    varied = orn.vary(one, x, 0.3, nfe=8)
    assert float((x * varied).mean()) == pytest.approx(math.cos(0.3 * math.pi / 2), abs=0.06)
    with pytest.raises(ValueError, match=r"strength is 1\.5; it must lie in \[0, 1\]"):
        orn.vary(GAUSSIAN, x, 1.5)


@pytest.mark.parametrize("model", [
    GAUSSIAN, VECTORS, mixture(orn.Linear(), 2), mixture(orn.Exploding(), 2),
    orn.ExactGaussian(torch.zeros(3), torch.tensor([0.01, 1.0, 4.0]), orn.Chain.linear())],
    ids=["gaussian", "narrow mixture", "linear", "exploding", "chain"])
def test_sampling_from_the_latent_comes_back(model):
    x = model.draw(30)
    z = orn.invert(model, x, nfe=50)
    assert float((orn.sample(model, z=z, nfe=50) - x).square().mean().sqrt()) < 1e-4
    # It is the flow's own latent, of the law of pure noise.
    flow = orn.ode_likelihood(model, x[:4], tolerance=1e-6).latent
    assert torch.allclose(z[:4], flow, atol=2e-3 * float(flow.abs().max()))


def test_a_trained_networks_sample_comes_back_under_its_condition(trained):
    model, data = orn.load(trained), orn.load_data("digits")
    x, labels = data.batch(np.flatnonzero(data.held)[:4])
    for words in ({"condition": labels}, {"condition": labels, "guidance": 2.0}):
        back = orn.sample(model, z=orn.invert(model, x, nfe=50, **words), nfe=50, **words)
        assert float((back - x).square().mean().sqrt()) < 1e-2


def test_between_two_samples_the_ends_are_the_samples():
    a, b = GAUSSIAN.draw(3), GAUSSIAN.draw(3, seed=1)
    walk = orn.interpolate(GAUSSIAN, a, b, 5).unflatten(0, (3, 5))
    assert torch.equal(walk[:, 0], a)
    assert torch.equal(walk[:, -1], b)
    same = orn.interpolate(GAUSSIAN, a, a, 3).unflatten(0, (3, 3))
    assert torch.allclose(same[:, 1], a, atol=1e-3)
    # Of a standard normal law latents are the samples: the middle lies on the great circle, not on the chord.
    ball = orn.ExactGaussian(torch.zeros(2), torch.ones(2), orn.Cosine())
    middle = orn.interpolate(ball, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 3)[1]
    assert torch.allclose(middle, torch.full((2,), 0.5**0.5), atol=1e-3)
    for words, reason in (({"count": 1}, "count is 1; it must be at least 2"), ({"b": b[:2]}, "a has 3 samples and b"),
                          ({"condition": 0, "condition_b": 1}, "classes cannot be interpolated")):
        with pytest.raises(ValueError, match=reason):
            orn.interpolate(orn.ExactMixture(torch.ones(2), torch.ones(2, 4), torch.ones(2), orn.Cosine()),
                            **{"a": a, "b": b, "count": 3} | words)


def test_draws_that_are_no_numbers_are_refused():
    broken = Shifted(GAUSSIAN, math.nan)
    for draw in (lambda: orn.inpaint(broken, torch.ones(1, 4), torch.eye(4)[0]), lambda: orn.invert(broken, X_ONE),
                 lambda: orn.restore(broken, torch.ones(1, 2), "mask=0.5", 0.1), lambda: orn.vary(broken, X_ONE, 0.5)):
        with pytest.raises(RuntimeError, match="1 of 1 samples are not finite"):
            draw()


def test_every_edit_tells_how_far_it_is():
    x = torch.where(torch.eye(4, dtype=torch.bool), math.nan, normal(4, 4))
    for edit in (lambda tell: orn.inpaint(GAUSSIAN, x, count=2, nfe=3, progress=tell),
                 lambda tell: orn.restore(GAUSSIAN, x[:, :2].nan_to_num(), "mask=0.5", 0.1, nfe=3, progress=tell),
                 lambda tell: orn.vary(GAUSSIAN, x.nan_to_num(), 0.5, nfe=3, progress=tell),
                 lambda tell: orn.invert(GAUSSIAN, x.nan_to_num(), nfe=3, progress=tell),
                 lambda tell: orn.interpolate(GAUSSIAN, x.nan_to_num(), x.nan_to_num(), 3, nfe=3, progress=tell)):
        shares: list[float] = []
        edit(shares.append)
        assert shares == sorted(shares)
        assert shares[0] < shares[-1] == pytest.approx(1)


def test_no_edit_takes_more_calls_than_it_may():
    x = normal(2, 4)
    for nfe in (2, 5, 12, 50):
        for edit, most in ((lambda model, n: orn.inpaint(model, x, torch.eye(4)[:1], nfe=n), nfe),
                           (lambda model, n: orn.vary(model, x, 1.0, nfe=n), nfe),
                           (lambda model, n: orn.vary(model, x, 0.3, nfe=n), 1 + nfe // 2),
                           (lambda model, n: orn.invert(model, x, nfe=n), nfe),
                           (lambda model, n: orn.interpolate(model, x, x, 3, nfe=n), 3 * nfe)):
            model = Counting(Shifted(GAUSSIAN, 0.1))
            edit(model, nfe)
            assert 1 <= model.calls <= most
