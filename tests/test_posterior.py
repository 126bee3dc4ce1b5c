"""Draws given a measurement, beside posteriors in closed form."""

from __future__ import annotations

import math

import pytest
import torch

import ornstein as orn
from ornstein.diffusion.editing.draws import Draws
from ornstein.diffusion.editing.operator import read_operator
from ornstein.diffusion.editing.posterior import Measurement, resample, secant, trust
from ornstein.diffusion.linear import Gaussian


def walk(size: int) -> orn.ExactGaussian:
    """A random walk of unit mean variance."""
    steps = torch.arange(1.0, size + 1, dtype=torch.float64)
    return orn.ExactGaussian(steps / size, torch.minimum(steps[:, None], steps) / steps.mean(), orn.Cosine())


def test_the_unknown_part_of_a_gaussian_has_its_conditional_law() -> None:
    data, many = walk(8), 6000
    covariance = data.basis * data.power @ data.basis.T
    known = torch.tensor([True, False] * 4)
    x = data.draw(1, seed=1)
    gain = covariance[~known][:, known] @ torch.linalg.inv(covariance[known][:, known])
    mean = data.mean[~known] + gain @ (x[0] - data.mean)[known]
    left = covariance[~known][:, ~known] - gain @ covariance[known][:, ~known]
    drawn = orn.inpaint(data, x, known, many, nfe=12)
    assert torch.equal(drawn[:, known], x[:, known].expand(many, -1))
    hole = drawn[:, ~known]
    # Each of the 4 means and 10 second moments is off by less than 5 deviations of it: 1 false alarm in 10^5.
    deviation = left.diagonal().sqrt()
    assert ((hole.mean(0) - mean).abs() < 5 * deviation / math.sqrt(many)).all()
    off = (hole - mean).T @ (hole - mean) / many - left
    spread = (torch.outer(deviation**2, deviation**2) + left**2).sqrt()
    assert (off.abs() < 5 * spread / math.sqrt(many)).all()


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_modes_have_the_shares_that_the_measurement_leaves_them(noise: float) -> None:
    mean = torch.tensor([[-1.0, -1.0], [-0.9, 1.0], [1.0, 0.0]])
    weight, variance = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.02, 0.01, 0.02])
    data, y, many = orn.ExactMixture(weight, mean, variance, orn.Cosine()), torch.tensor([[-0.85]]), 1500
    total = variance + noise**2
    share = (weight.log() - (y[0] - mean[:, 0]) ** 2 / (2 * total) - 0.5 * total.log()).softmax(0)
    drawn = orn.restore(data, y, torch.tensor([[1.0, 0.0]]), noise, many, nfe=50, seed=3)
    upper = float((drawn[:, 1] > 0).double().mean())
    # Walks that were chosen together are less than `many` independent ones: a tenth of them, 4 deviations.
    assert abs(upper - float(share[1])) < 4 * math.sqrt(float(share[1] * (1 - share[1])) / (many / 10))


def test_a_draw_costs_its_budget_and_one_observation_knows_nothing_of_another() -> None:
    class Counted(orn.ExactGaussian):
        rows = 0

        def forward(self, z: torch.Tensor, t: torch.Tensor | float, condition: object = None) -> object:
            self.rows += len(z)
            return super().forward(z, t)

    data = Counted(torch.zeros(4), torch.tensor([1.0, 0.5, 0.2, 0.1]), orn.Linear())
    y = torch.tensor([[0.3, -1.0], [0.1, 0.2], [1.0, 0.0]])
    matrix = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    together = orn.restore(data, y, matrix, 0.1, 64, nfe=7)
    assert data.rows == 3 * 64 * 7
    assert torch.equal(orn.restore(data, y[:1], matrix, 0.1, 64, nfe=7), together[:64])


def test_the_precision_of_a_gaussian_is_found_by_a_single_walk_and_by_many() -> None:
    g = torch.Generator().manual_seed(0)
    precision, variance = torch.tensor([0.5, 2.0, 30.0], dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    dx = torch.randn(500, 3, generator=g, dtype=torch.float64)
    assert torch.allclose(secant(dx, precision * dx, variance), precision, rtol=0.1)
    alike = torch.full((3,), 7.0, dtype=torch.float64)
    assert torch.allclose(secant(dx[:1], alike * dx[:1], variance), alike, rtol=1e-6)


def test_walks_go_on_in_the_shares_of_their_weights() -> None:
    weight = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)
    chosen, left = resample(weight.log(), Draws(1, 4, 0, [0]), 1, True)
    # Systematic: each goes on in one of the two numbers of copies next to its share.
    copies = torch.bincount(chosen, minlength=4)
    assert ((copies - 4 * weight).abs() < 1).all()
    assert not left.any()
    # What differs by more than may be counts for less than what differs by as much.
    assert trust(2.5, weight.log()) == 1
    assert 100 * trust(2.5, 100 * weight.log()) * weight.log().std(correction=0) < 2.5


def test_a_measurement_of_single_directions_is_that_of_its_matrix() -> None:
    g = torch.Generator().manual_seed(1)
    matrix = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0, 0, -2, 0]], dtype=torch.float64)
    mean, variance = torch.randn(2, 5, generator=g, dtype=torch.float64)
    quick, plain = (Measurement(Gaussian(mean, variance**2), read_operator(matrix, (5,)), 0.3) for _ in range(2))
    assert quick.matrix is None
    plain.matrix = matrix
    x, y, eps, error = (torch.randn(7, size, generator=g, dtype=torch.float64) for size in (5, 2, 5, 2))
    white, whole = quick.whitener(variance**2), plain.whitener(variance**2)
    assert torch.allclose(quick.log_likelihood(y, x, white), plain.log_likelihood(y, x, whole))
    assert torch.allclose(quick.draw(y, x, variance**2, white, eps, error),
                          plain.draw(y, x, variance**2, whole, eps, error))


def test_a_denoiser_around_another_knows_the_same_of_the_data() -> None:
    mean, variance = torch.tensor([[-3.0, 1.0], [2.0, 5.0]]), torch.tensor([0.1, 0.2])
    data, y = orn.ExactMixture(torch.ones(2), mean, variance, orn.Cosine()), torch.tensor([[2.5]])
    inner, outer = (orn.restore(one, y, torch.tensor([[1.0, 0.0]]), 0.1, 8, nfe=5, condition=1)
                    for one in (data, orn.Guided(data, 1.0)))
    assert torch.equal(inner, outer)
