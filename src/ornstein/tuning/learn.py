"""Training of a student: regression on exact paths, then gradients of a cost of its samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ornstein.diffusion.denoiser import Batched, Denoiser
from ornstein.diffusion.samplers.loop import default_rows
from ornstein.tuning.paths import Starts
from ornstein.tuning.student import Student

__all__ = ["Matching", "fit_by_regression", "improve", "log_error", "takes_gradients"]

Cost = Callable[[Tensor, Tensor], Tensor]

DIRECTIONS, FLOOR = 64, 1e-2  # whose moments are matched, and their minimum variance relative to the mean variance
MOMENTS = 20.0  # weight of the moments relative to the squared error
MIN_SQUARE = 1e-12  # squared error below which nothing is gained


def takes_gradients(denoiser: Denoiser, starts: Starts) -> bool:
    """Whether autograd can differentiate a denoiser, as it cannot if the answers are computed outside of PyTorch."""
    sample = starts.first(1)
    with torch.enable_grad():
        time = torch.tensor(0.5, dtype=torch.float64, device="cpu", requires_grad=True)
        try:
            v = denoiser(sample.z.requires_grad_(), time, sample.condition).v
            return v.requires_grad and torch.autograd.grad(v.sum(), sample.z)[0] is not None
        except RuntimeError:  # a tensor that needs a gradient is made into an array, or the model has no gradient
            return False


def fit_by_regression(denoiser: Denoiser, times: Tensor, starts: Starts) -> Student:
    """A student on these times whose steps follow the exact paths as closely as possible."""
    student, batched = Student(denoiser, times), Batched(denoiser, starts.condition, default_rows(denoiser, starts.z))
    student.regress(starts.along(denoiser, times), lambda z, time: batched(z, time).v)
    return student


def log_error(x: Tensor, end: Tensor) -> Tensor:
    """Mean log root-mean-square error of each sample, which lowers the median error, plus half that of all samples
    together, which penalises outliers.
    """
    squares = (x - end).double().square().flatten(1).mean(1) + MIN_SQUARE
    return squares.log().mean() / 2 + squares.mean().log() / 4


class Matching:
    """Mean square error, plus the distance between the moments of samples and of the ends of the same exact paths.

    Squared errors alone make samples too similar. The squared Fréchet distance of two Gaussians is to second order

        |mean_a - mean_b|^2 + sum_ij (cov_a - cov_b)_ij^2 / (2 (l_i + l_j))

    along the principal directions of the covariance, with variances l; as both sets come from the same noise, their
    sampling errors cancel.
    """

    def __init__(self, end: Tensor) -> None:
        rows = end.double().flatten(1)
        self.mean = rows.mean(0)
        _, size, directions = torch.linalg.svd(rows - self.mean, full_matrices=False)
        variance = size**2 / max(len(rows) - 1, 1)
        self.basis = directions[:DIRECTIONS].T
        variance = variance[:DIRECTIONS].clamp(min=FLOOR * float(variance.sum()) / rows.shape[1])
        self.weight = 0.5 / (variance[:, None] + variance)

    def __call__(self, x: Tensor, end: Tensor) -> Tensor:
        a, b = ((samples.double().flatten(1) - self.mean) @ self.basis for samples in (x, end))
        difference = torch.cov(a.T) - torch.cov(b.T)
        moments = (a.mean(0) - b.mean(0)).square().sum() + (difference.square() * self.weight).sum()
        return (x - end).double().square().mean() + MOMENTS * moments / x[0].numel()


def improve(student: Student, starts: Starts, cost: Cost, parameters: Sequence[nn.Parameter],
            iterations: int) -> None:
    """Minimise the cost of a student's samples over some of its parameters by L-BFGS; the gradient recomputes the
    samples a chunk at a time, so that memory does not grow with their number.
    """
    rows = default_rows(student.denoiser, starts.z)
    before = [parameter.detach().clone() for parameter in parameters]
    chunks = [slice(first, first + rows) for first in range(0, len(starts.z), rows)]
    conditions = [None if starts.condition is None else starts.condition[chunk] for chunk in chunks]

    def closure() -> float:
        with torch.enable_grad():
            weights = student.weights()
        with torch.no_grad():
            x = torch.cat([student(starts.z[chunk], condition, weights)
                           for chunk, condition in zip(chunks, conditions, strict=True)])
        with torch.enable_grad():
            value = cost(x.requires_grad_(), starts.end)
            gradient_x, = torch.autograd.grad(value, x)
            if not (value.isfinite() and gradient_x.isfinite().all()):
                return math.inf  # the line search backtracks
            total = [torch.zeros_like(parameter) for parameter in parameters]
            for chunk, condition in zip(chunks, conditions, strict=True):
                # Not named, so that the graph of a chunk is freed before the next one is built; that of the weights,
                # which all chunks share, is kept.
                gradients = torch.autograd.grad(student(starts.z[chunk], condition, weights), parameters,
                                                gradient_x[chunk], retain_graph=True)
                total = [a + b for a, b in zip(total, gradients, strict=True)]
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = gradient
        return float(value.detach())

    torch.optim.LBFGS(parameters, max_iter=iterations, history_size=iterations, tolerance_change=1e-9,
                      line_search_fn="strong_wolfe").step(closure)
    if not all(parameter.isfinite().all() for parameter in parameters):
        for parameter, value in zip(parameters, before, strict=True):
            parameter.data.copy_(value)
