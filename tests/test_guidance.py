"""Guidance as a denoiser that wraps a denoiser (section 20.4)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

import ornstein as orn
from conftest import SCHEDULES, normal

F64 = torch.float64


class Counted(orn.Denoiser):
    """Any denoiser, with the rows, times and conditions of every call kept."""

    def __init__(self, inner):
        super().__init__(inner.schedule, inner.shape)
        self.inner, self.calls = inner, []

    def forward(self, z, t, condition=None):
        self.calls.append((z, torch.as_tensor(t), condition))
        return self.inner(z, t, condition)


def mixture(schedule=None):
    centres = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, 2.0]])
    return orn.ExactMixture(torch.tensor([0.2, 0.5, 0.3]), centres, torch.tensor([0.2, 0.4, 0.1]),
                            schedule or orn.Cosine())


CLASSES = torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_scale_1_is_the_conditional_model_bit_for_bit(schedule, t):
    z, model = normal(4, 2), mixture(schedule)
    assert torch.equal(orn.Guided(model, 1.0)(z, t, CLASSES).v, model(z, t, CLASSES).v)


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_scale_0_is_the_model_without_a_condition(schedule, t):
    z, model = normal(4, 2), mixture(schedule)
    assert_close(orn.Guided(model, 0.0)(z, t, CLASSES).v, model(z, t).v, rtol=1e-12, atol=1e-12)


@given(st.sampled_from(sorted(SCHEDULES)).map(SCHEDULES.get), st.floats(0.001, 1), st.floats(-5, 10))
def test_guidance_moves_x_eps_and_score_alike(schedule, t, scale):
    """Ho & Salimans 2022: every reading is unconditional + scale (conditional - unconditional)."""
    z, model = normal(4, 2), mixture(schedule)
    guided, given_, free = orn.Guided(model, scale)(z, t, CLASSES), model(z, t, CLASSES), model(z, t)
    for reading in ("v", "x", "eps", "score"):
        with_it, without = getattr(given_, reading), getattr(free, reading)
        size = 1e-12 * (1 + abs(scale)) * float(with_it.abs().max() + without.abs().max())
        assert_close(getattr(guided, reading), without + scale * (with_it - without), rtol=1e-10, atol=size)


def test_the_guided_score_is_that_of_a_sharpened_law(schedule):
    """score = grad [log q(z) + scale log q(class | z)]: Bayes' rule turns the condition into a classifier."""
    model, t, scale = mixture(schedule), 0.4, 3.0
    z = normal(4, 2).requires_grad_()
    classifier = model.log_prob_at(z, t, CLASSES) + model.weight[CLASSES].log() - model.log_prob_at(z, t)
    gradient, = torch.autograd.grad((model.log_prob_at(z, t) + scale * classifier).sum(), z)
    assert_close(orn.Guided(model, scale)(z.detach(), t, CLASSES).score, gradient, rtol=1e-9, atol=1e-9)


def test_a_guided_answer_is_one_call_of_twice_the_rows():
    """The second half of the rows asks without a condition (-1); at scale 1 there is nothing to double."""
    z, t = normal(4, 2), torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=F64)
    counted = Counted(mixture())
    orn.Guided(counted, 2.0)(z, t, CLASSES)
    (rows, times, classes), = counted.calls
    assert torch.equal(rows, torch.cat([z, z]))
    assert torch.equal(times, torch.cat([t, t]))
    assert classes.tolist() == [*CLASSES.tolist(), -1, -1, -1, -1]
    counted = Counted(mixture())
    orn.Guided(counted, 1.0)(z, t, CLASSES)
    assert [len(call[0]) for call in counted.calls] == [4]


def test_guidance_acts_inside_its_interval_alone():
    """Kynkäänniemi et al. 2024: guided from 0.3 to 0.6, both included, row by row; conditional outside, undoubled."""
    z, model = normal(4, 2), mixture()
    guided, everywhere = orn.Guided(model, 3.0, (0.3, 0.6)), orn.Guided(model, 3.0)
    for t, inside in ((0.29, False), (0.3, True), (0.6, True), (0.61, False)):
        expected = (everywhere if inside else model)(z, t, CLASSES).v
        assert torch.equal(guided(z, t, CLASSES).v, expected)
    t = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=F64)
    mixed = guided(z, t, CLASSES).v
    assert_close(mixed[[0, 3]], model(z, t, CLASSES).v[[0, 3]], rtol=1e-12, atol=1e-12)
    assert_close(mixed[[1, 2]], everywhere(z, t, CLASSES).v[[1, 2]], rtol=1e-12, atol=1e-12)
    counted = Counted(mixture())
    orn.Guided(counted, 3.0, (0.3, 0.6))(z, 0.9, CLASSES)
    assert len(counted.calls[0][0]) == 4


def test_sample_guides_with_its_scale():
    """`guidance=` is a Guided around the model; None and 1 are the conditional model itself."""
    model = mixture()
    for scale in (0.0, 2.5):
        direct = orn.sample(orn.Guided(model, scale), 5, nfe=6, condition=1, seed=2)
        assert torch.equal(orn.sample(model, 5, nfe=6, condition=1, guidance=scale, seed=2), direct)
    plain = orn.sample(model, 5, nfe=6, condition=1, seed=2)
    assert torch.equal(orn.sample(model, 5, nfe=6, condition=1, guidance=1, seed=2), plain)
    counted = Counted(model)
    orn.sample(counted, 5, nfe=6, condition=1, guidance=2.0)
    assert len(counted.calls) == 6
    assert {len(call[0]) for call in counted.calls} == {128}


def test_guidance_pushes_samples_towards_the_class():
    """With a larger scale the samples of a class are further on its side: mean log q(class | x) rises (200 samples)."""
    model = mixture()
    sure = []
    for scale in (0.0, 1.0, 3.0):
        x = orn.sample(model, 200, nfe=30, condition=0, guidance=scale, seed=1)
        sure.append(float((model.log_prob(x, 0) + model.weight[0].log() - model.log_prob(x)).mean()))
    assert sure[0] < sure[1] < sure[2] <= 0


def test_impossible_guidance_is_refused():
    model, z = mixture(), normal(2, 2)
    for build, message in (
        (lambda: orn.Guided(model, 2.0, (0.6, 0.3)), "interval"),
        (lambda: orn.Guided(model, 2.0, (-0.1, 1)), "interval"),
        (lambda: orn.Guided(model, float("nan")), "scale is nan"),
        (lambda: orn.Guided(model, float("inf")), "scale is inf"),
        (lambda: orn.Guided(model, 2.0)(z, 0.5), "condition is None"),
        (lambda: orn.sample(model, 2, guidance=2.0), "condition is None"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
