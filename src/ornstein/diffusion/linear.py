"""The best linear guess: what a Gaussian fitted to the data already knows, so that a network need not learn it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from ornstein.arguments import Guess, require
from ornstein.diffusion.level import Level

__all__ = ["KINDS", "MOST_SIDE", "Gaussian", "LinearGuess", "wiener"]

MOST_SIDE = 4096  # of samples whose waves are transformed by matrices of that size
KINDS = get_args(Guess)
LEAST = 1e-6  # variance in a direction, in parts of the mean of all
MOST_SIZE = 1024  # values of a sample whose directions are held as a matrix


class Gaussian:
    """The Gaussian with the mean and the covariance of data, or with as much of them as is known.

    Args:
        mean: (D,).
        variance: (D,) along the orthonormal columns of `basis`.
        basis: (D, D), or None for the values themselves.
    """

    def __init__(self, mean: Tensor, variance: Tensor, basis: Tensor | None = None) -> None:
        self.mean, self.basis = mean.double(), None if basis is None else basis.double()
        # Data may be flat in a direction; a model of them is not, quite.
        least = LEAST * max(float(variance.mean()), torch.finfo(torch.float32).tiny)
        self.variance = variance.double().clamp(min=least)

    @classmethod
    def standard(cls, size: int) -> Gaussian:
        """Of mean 0 and variance 1."""
        return cls(torch.zeros(size, device="cpu"), torch.ones(size, device="cpu"))

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor) -> Gaussian:
        """With a covariance, (D, D)."""
        return cls(mean, *torch.linalg.eigh(covariance))

    @property
    def deviation(self) -> float:
        """Of a value, root mean square."""
        return float(self.variance.mean().sqrt())

    def to(self, device: torch.device) -> Gaussian:
        """The same on a device."""
        basis = None if self.basis is None else self.basis.to(device)
        return Gaussian(self.mean.to(device), self.variance.to(device), basis)

    def along(self, x: Tensor) -> Tensor:
        """Vectors (N, D) along the basis."""
        return x if self.basis is None else x @ self.basis

    def turn(self, x: Tensor) -> Tensor:
        """Samples (N, D) less their mean, along the basis."""
        return self.along(x - self.mean)

    def back(self, x: Tensor) -> Tensor:
        """Samples (N, D) from what `turn` made of them."""
        return self.mean + (x if self.basis is None else x @ self.basis.T)


class LinearGuess(nn.Module):
    """E[v | y] for centred Gaussian data with given variances along given directions.

    With (c, s) the shares of signal and noise in y and p the variance along a direction,

        E[v | y] = c s (1 - p) / (c^2 p + s^2) y   along it:

    the Wiener filter, which is `ExactGaussian` written for y. With p = 1 in every direction it is 0, the skip
    connection of Karras et al. 2022; variances extend that preconditioning from one number to many.

    The variances are those of the values (D,), along the orthonormal rows of a `basis` (K, D), with `rest` in all other
    directions, or, with a `shape` (C, *sides), those of cosine waves along each side of each channel: data that are
    alike at every place are all but independent in waves, which few samples tell and no basis must hold.
    """

    variance: Tensor
    basis: Tensor | None
    rest: Tensor
    shape: Tensor | None

    def __init__(self, variance: Tensor, basis: Tensor | None = None, rest: Tensor | float = 1.0,
                 shape: Sequence[int] | Tensor | None = None) -> None:
        super().__init__()
        sides = None if shape is None else [int(side) for side in shape]
        if sides is not None and (basis is not None or math.prod(sides) != variance.numel()):
            raise ValueError(f"shape is {tuple(sides)}; it must hold the {variance.numel()} variances, without a basis")
        if sides is not None and max(sides[1:], default=0) > MOST_SIDE:
            raise ValueError(f"shape is {tuple(sides)}; waves are for sides of at most {MOST_SIDE}")
        rest = torch.as_tensor(rest, dtype=torch.float32, device=variance.device)
        if variance.ndim != 1 or rest.ndim or (basis is not None and basis.shape[:1] != variance.shape):
            raise ValueError(f"variance has shape {tuple(variance.shape)}, rest {tuple(rest.shape)} and basis "
                             f"{None if basis is None else tuple(basis.shape)}; they must be (K,), () and (K, D)")
        if not (variance >= 0).all() or not rest >= 0:
            raise ValueError(f"the least variance is {min(float(variance.min()), float(rest))}; variances must be >= 0")
        if basis is not None:
            unit = torch.eye(len(basis), dtype=basis.dtype, device=basis.device)
            if not torch.allclose(basis @ basis.T, unit, atol=1e-4):
                raise ValueError("basis has rows that are not orthonormal")
        self.register_buffer("variance", variance.float())
        self.register_buffer("basis", None if basis is None else basis.float())
        self.register_buffer("rest", rest)
        self.register_buffer("shape", None if sides is None else torch.tensor(sides))
        self.sides = [] if sides is None else sides[1:]
        for axis, side in enumerate(self.sides):
            self.register_buffer(f"waves{axis}", _cosines(side).float(), persistent=False)

    @classmethod
    def fit(cls, x: Tensor, kind: str = "diagonal", most: int = 256) -> LinearGuess:
        """The variances of data (N, ...) of mean 0, by kind: "diagonal", of each value; "principal", along at most
        `most` principal directions; "waves", of cosine waves, for x (N, C, *sides).
        """
        require("linear", kind, KINDS)
        if kind == "waves":
            turned = _turn(x.double(), [_cosines(side).to(x.device) for side in x.shape[2:]])
            return cls(turned.square().mean(0).flatten(), shape=x.shape[1:])
        rows = x.flatten(1).double()
        if kind == "diagonal":
            return cls(rows.square().mean(0))
        keep = min(most, len(rows), rows.shape[1])
        if rows.shape[1] <= 1024:
            variance, basis = torch.linalg.eigh(rows.T @ rows / len(rows))
            variance, basis = variance.flip(0)[:keep].clamp(min=0), basis.flip(1)[:, :keep].T
        else:
            from sklearn.decomposition import PCA

            fitted = PCA(keep, svd_solver="randomized", random_state=0).fit(rows.float().numpy())
            variance, basis = (torch.from_numpy(part).double() for part in
                               (fitted.explained_variance_, fitted.components_))
        left = rows.shape[1] - keep
        rest = (rows.square().sum(1).mean() - variance.sum()).clamp(min=0) / left if left else 0.0
        return cls(variance, basis, rest)

    def forward(self, y: Tensor, level: Level) -> Tensor:
        """E[v | y] for y = c x + s eps of unit radius; y (B, ...), level entries () or (B, 1, ...); like y."""
        signal, noise = (entry.reshape(-1, 1) for entry in level.unit)
        gain = wiener(signal, noise, self.variance.to(y))
        if self.shape is not None:
            waves = [getattr(self, f"waves{axis}").to(y) for axis in range(len(self.sides))]
            turned = _turn(y, waves)
            return _turn(gain.reshape(-1, *y.shape[1:]) * turned, [wave.T for wave in waves])
        rows = y.flatten(1)
        if self.basis is None:
            return (gain * rows).reshape(y.shape)
        rest, basis = wiener(signal, noise, self.rest.to(y)), self.basis.to(y)
        return ((rows @ basis.T) * (gain - rest) @ basis + rest * rows).reshape(y.shape)

    def moments(self) -> tuple[Tensor, Tensor | None]:
        """The variances (D,) and the orthonormal columns (D, D) that they are along; of very large samples, and where
        they are those of the values anyway, the variances of the values and None.
        """
        size = self.variance.numel() if self.basis is None else self.basis.shape[1]
        if self.shape is not None:
            if size > MOST_SIZE:
                return self.variance.mean().expand(size), None
            waves = torch.eye(int(self.shape[0]), dtype=torch.float64, device=self.variance.device)
            for axis in range(len(self.sides)):
                waves = torch.kron(waves, getattr(self, f"waves{axis}"))
            return self.variance, waves.T
        if self.basis is None:
            return self.variance, None
        if size > MOST_SIZE:
            return self.rest + self.basis.T.square() @ (self.variance - self.rest), None
        columns, _ = torch.linalg.qr(self.basis.T.double(), mode="complete")
        return torch.cat([self.variance, self.rest.expand(size - len(self.variance))]), columns


def wiener(signal: Tensor, noise: Tensor, variance: Tensor) -> Tensor:
    """c s (1 - p) / (c^2 p + s^2), the factor of y in E[v | y] of centred Gaussian data of variance p; 0 for 0 / 0."""
    total = signal**2 * variance + noise**2
    return torch.where(total > 0, signal * noise * (1 - variance) / total.clamp(min=torch.finfo(total.dtype).tiny), 0)


def _cosines(side: int) -> Tensor:
    """The orthonormal cosine transform of `side` values as a matrix, float64: wave by place."""
    wave, place = torch.meshgrid(*[torch.arange(side, dtype=torch.float64, device="cpu")] * 2, indexing="ij")
    matrix = torch.cos(math.pi * (place + 0.5) * wave / side) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def _turn(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """x (B, C, *sides) with each side multiplied by its matrix."""
    for axis, matrix in enumerate(matrices, 2):
        x = (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return x
