"""How a student learns: regression on exact paths, then the gradient of what is wrong with its samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ornstein.diffusion.denoiser import Batched, Denoiser
from ornstein.diffusion.samplers.loop import usual_rows
from ornstein.tuning.paths import Starts
from ornstein.tuning.student import Student

__all__ = ["Matching", "improve", "log_error", "regressed", "takes_gradients"]

Cost = Callable[[Tensor, Tensor], Tensor]

DIRECTIONS, FLOOR = 64, 1e-2  # whose moments are matched, and the least variance in one, in parts of the mean
MOMENTS = 20.0  # weight of the moments beside the squared error
LEAST = 1e-12  # squared error below which nothing is gained


def takes_gradients(denoiser: Denoiser, starts: Starts) -> bool:
    """Whether a gradient goes through a denoiser; through one whose answers are found outside of PyTorch none does."""
    some = starts.first(1)
    with torch.enable_grad():
        time = torch.tensor(0.5, dtype=torch.float64, device="cpu", requires_grad=True)
        try:
            v = denoiser(some.z.requires_grad_(), time, some.condition).v
            return v.requires_grad and torch.autograd.grad(v.sum(), some.z)[0] is not None
        except RuntimeError:  # PyTorch's own, where an array is made of what needs a gradient, or a model's without one
            return False


def regressed(denoiser: Denoiser, times: Tensor, starts: Starts) -> Student:
    """A student on these times whose every step leads as near as may be to the exact path."""
    student, ask = Student(denoiser, times), Batched(denoiser, starts.condition, usual_rows(denoiser, starts.z))
    student.regress(starts.along(denoiser, times), lambda z, time: ask(z, time).v)
    return student


def log_error(x: Tensor, end: Tensor) -> Tensor:
    """Mean logarithm of each sample's root mean square error, which serves the median, and half that of all samples
    together, so that few are far off.
    """
    squares = (x - end).double().square().flatten(1).mean(1) + LEAST
    return squares.log().mean() / 2 + squares.mean().log() / 4


class Matching:
    """Mean square error, and the distance between the moments of samples and of the ends of the same exact paths.

    Squared errors alone make samples that are alike. The squared Fréchet distance of two Gaussians is to second order

        |mean_a - mean_b|^2 + sum_ij (cov_a - cov_b)_ij^2 / (2 (l_i + l_j))

    along the principal directions of the covariance, with variances l; as both sets are of the same noise, what few
    samples leave uncertain is in both and falls out.
    """

    def __init__(self, end: Tensor) -> None:
        rows = end.double().flatten(1)
        self.mean = rows.mean(0)
        _, size, directions = torch.linalg.svd(rows - self.mean, full_matrices=False)
        variance = size**2 / max(len(rows) - 1, 1)
        self.basis = directions[:DIRECTIONS].T
        kept = variance[:DIRECTIONS].clamp(min=FLOOR * float(variance.sum()) / rows.shape[1])
        self.weight = 0.5 / (kept[:, None] + kept)

    def __call__(self, x: Tensor, end: Tensor) -> Tensor:
        a, b = ((part.double().flatten(1) - self.mean) @ self.basis for part in (x, end))
        apart = torch.cov(a.T) - torch.cov(b.T)
        moments = (a.mean(0) - b.mean(0)).square().sum() + (apart.square() * self.weight).sum()
        return (x - end).double().square().mean() + MOMENTS * moments / x[0].numel()


def improve(student: Student, starts: Starts, cost: Cost, parameters: Sequence[nn.Parameter],
            iterations: int) -> None:
    """Move some of a student's numbers to where its samples cost least, by the method of Broyden, Fletcher, Goldfarb
    and Shanno; samples are taken again, a few at a time, for the gradient, so that memory does not grow with them.
    """
    rows = usual_rows(student.denoiser, starts.z)
    before = [parameter.detach().clone() for parameter in parameters]
    parts = [slice(first, first + rows) for first in range(0, len(starts.z), rows)]
    told = [None if starts.condition is None else starts.condition[part] for part in parts]

    def closure() -> float:
        with torch.enable_grad():
            weights = student.weights()
        with torch.no_grad():
            x = torch.cat([student(starts.z[part], condition, weights)
                           for part, condition in zip(parts, told, strict=True)])
        with torch.enable_grad():
            value = cost(x.requires_grad_(), starts.end)
            pull, = torch.autograd.grad(value, x)
            if not (value.isfinite() and pull.isfinite().all()):
                return math.inf  # the search along the line turns back
            total = [torch.zeros_like(parameter) for parameter in parameters]
            for part, condition in zip(parts, told, strict=True):
                found = torch.autograd.grad(student(starts.z[part], condition, weights), parameters, pull[part],
                                            retain_graph=True)  # of the weights, which all parts share
                total = [so_far + more for so_far, more in zip(total, found, strict=True)]
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = gradient
        return float(value.detach())

    torch.optim.LBFGS(parameters, max_iter=iterations, history_size=iterations, tolerance_change=1e-9,
                      line_search_fn="strong_wolfe").step(closure)
    if not all(parameter.isfinite().all() for parameter in parameters):
        for parameter, value in zip(parameters, before, strict=True):
            parameter.data.copy_(value)
