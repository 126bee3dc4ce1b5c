"""The best linear guess: the denoiser of a Gaussian fitted to the data, to which a network only adds the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from ornstein.arguments import Guess, require
from ornstein.diffusion.level import Level

__all__ = ["KINDS", "MAX_SIDE", "Gaussian", "LinearGuess", "wiener_gain"]

MAX_SIDE = 4096  # of samples whose sides are transformed to cosine waves by matrices
KINDS = get_args(Guess)
MIN_VARIANCE = 1e-6  # in a direction, relative to the mean over all directions
MAX_MATRIX_SIZE = 1024  # values of a sample, up to which its directions are stored as a matrix


class Gaussian:
    """The Gaussian with the mean and the covariance of data, as far as they are known.

    Args:
        mean: (D,).
        variance: (D,) along the orthonormal columns of `basis`.
        basis: (D, D), or None for the values themselves.
    """

    def __init__(self, mean: Tensor, variance: Tensor, basis: Tensor | None = None) -> None:
        self.mean, self.basis = mean.double(), None if basis is None else basis.double()
        # Data may be constant in a direction; their model is not quite.
        minimum = MIN_VARIANCE * max(float(variance.mean()), torch.finfo(torch.float32).tiny)
        self.variance = variance.double().clamp(min=minimum)

    @classmethod
    def standard(cls, size: int) -> Gaussian:
        """Mean 0 and variance 1."""
        return cls(torch.zeros(size, device="cpu"), torch.ones(size, device="cpu"))

    @classmethod
    def from_covariance(cls, mean: Tensor, covariance: Tensor) -> Gaussian:
        """From a mean (D,) and a covariance (D, D)."""
        return cls(mean, *torch.linalg.eigh(covariance))

    @property
    def std(self) -> float:
        """The standard deviation of a value, root mean square."""
        return float(self.variance.mean().sqrt())

    def to(self, device: torch.device) -> Gaussian:
        """The same Gaussian on a device."""
        basis = None if self.basis is None else self.basis.to(device)
        return Gaussian(self.mean.to(device), self.variance.to(device), basis)

    def rotate(self, x: Tensor) -> Tensor:
        """Vectors (N, D) in coordinates of the basis."""
        return x if self.basis is None else x @ self.basis

    def to_basis(self, x: Tensor) -> Tensor:
        """Samples (N, D) minus the mean, in coordinates of the basis."""
        return self.rotate(x - self.mean)

    def from_basis(self, x: Tensor) -> Tensor:
        """Samples (N, D) from their coordinates: the inverse of `to_basis`."""
        return self.mean + (x if self.basis is None else x @ self.basis.T)


class LinearGuess(nn.Module):
    """E[v | y] for centred Gaussian data with given variances along given directions.

    With (c, s) the shares of signal and noise in y and p the variance along a direction,

        E[v | y] = c s (1 - p) / (c^2 p + s^2) y   along it:

    the Wiener filter, `ExactGaussian` written for y. With p = 1 in every direction it is 0, the skip connection of
    Karras et al. 2022; variances extend that preconditioning from one number to many.

    The variances (D,) are those of the values; or those along the orthonormal rows of a `basis` (K, D), with `rest` in
    all other directions; or, with a `shape` (C, *sides), those of cosine waves along each side of each channel. Waves
    of stationary data are nearly independent, so their variances need few samples and no stored basis.
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
            raise ValueError(f"shape is {tuple(sides)}; it must fit the {variance.numel()} variances, without a basis")
        if sides is not None and max(sides[1:], default=0) > MAX_SIDE:
            raise ValueError(f"shape is {tuple(sides)}; waves need sides of at most {MAX_SIDE}")
        rest = torch.as_tensor(rest, dtype=torch.float32, device=variance.device)
        if variance.ndim != 1 or rest.ndim or (basis is not None and basis.shape[:1] != variance.shape):
            raise ValueError(f"variance has shape {tuple(variance.shape)}, rest {tuple(rest.shape)} and basis "
                             f"{None if basis is None else tuple(basis.shape)}; they must be (K,), () and (K, D)")
        if not (variance >= 0).all() or not rest >= 0:
            smallest = min(float(variance.min()), float(rest))
            raise ValueError(f"the smallest variance is {smallest}; variances must be >= 0")
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
    def fit(cls, x: Tensor, kind: str = "diagonal", directions: int = 256) -> LinearGuess:
        """Fit variances to data (N, ...) of mean 0: "diagonal", of each value; "principal", along at most `directions`
        principal directions; "waves", of cosine waves, for x (N, C, *sides).
        """
        require("linear", kind, KINDS)
        if kind == "waves":
            transformed = _transform_sides(x.double(), [_cosines(side).to(x.device) for side in x.shape[2:]])
            return cls(transformed.square().mean(0).flatten(), shape=x.shape[1:])
        rows = x.flatten(1).double()
        if kind == "diagonal":
            return cls(rows.square().mean(0))
        keep = min(directions, len(rows), rows.shape[1])
        if rows.shape[1] <= 1024:
            variance, basis = torch.linalg.eigh(rows.T @ rows / len(rows))
            variance, basis = variance.flip(0)[:keep].clamp(min=0), basis.flip(1)[:, :keep].T
        else:
            from sklearn.decomposition import PCA

            pca = PCA(keep, svd_solver="randomized", random_state=0).fit(rows.float().numpy())
            variance, basis = (torch.from_numpy(array).double()
                               for array in (pca.explained_variance_, pca.components_))
        remaining = rows.shape[1] - keep
        rest = (rows.square().sum(1).mean() - variance.sum()).clamp(min=0) / remaining if remaining else 0.0
        return cls(variance, basis, rest)

    def forward(self, y: Tensor, level: Level) -> Tensor:
        """E[v | y] for y = c x + s eps of unit radius; y (B, ...), level entries () or (B, 1, ...); like y."""
        signal, noise = (entry.reshape(-1, 1) for entry in level.unit)
        gain = wiener_gain(signal, noise, self.variance.to(y))
        if self.shape is not None:
            waves = [getattr(self, f"waves{axis}").to(y) for axis in range(len(self.sides))]
            transformed = _transform_sides(y, waves)
            return _transform_sides(gain.reshape(-1, *y.shape[1:]) * transformed, [wave.T for wave in waves])
        rows = y.flatten(1)
        if self.basis is None:
            return (gain * rows).reshape(y.shape)
        rest, basis = wiener_gain(signal, noise, self.rest.to(y)), self.basis.to(y)
        return ((rows @ basis.T) * (gain - rest) @ basis + rest * rows).reshape(y.shape)

    def moments(self) -> tuple[Tensor, Tensor | None]:
        """The variances (D,) and the orthonormal columns (D, D) of their directions; for very large samples, and for a
        diagonal guess, the variances of the values and None.
        """
        size = self.variance.numel() if self.basis is None else self.basis.shape[1]
        if self.shape is not None:
            if size > MAX_MATRIX_SIZE:
                return self.variance.mean().expand(size), None
            waves = torch.eye(int(self.shape[0]), dtype=torch.float64, device=self.variance.device)
            for axis in range(len(self.sides)):
                waves = torch.kron(waves, getattr(self, f"waves{axis}"))
            return self.variance, waves.T
        if self.basis is None:
            return self.variance, None
        if size > MAX_MATRIX_SIZE:
            return self.rest + self.basis.T.square() @ (self.variance - self.rest), None
        basis, _ = torch.linalg.qr(self.basis.T.double(), mode="complete")
        return torch.cat([self.variance, self.rest.expand(size - len(self.variance))]), basis


def wiener_gain(signal: Tensor, noise: Tensor, variance: Tensor) -> Tensor:
    """c s (1 - p) / (c^2 p + s^2), the factor of y in E[v | y] of centred Gaussian data of variance p; 0 for 0 / 0."""
    total = signal**2 * variance + noise**2
    return torch.where(total > 0, signal * noise * (1 - variance) / total.clamp(min=torch.finfo(total.dtype).tiny), 0)


def _cosines(side: int) -> Tensor:
    """The orthonormal cosine transform of `side` values as a float64 matrix, wave by position."""
    wave, position = torch.meshgrid(*[torch.arange(side, dtype=torch.float64, device="cpu")] * 2, indexing="ij")
    matrix = torch.cos(math.pi * (position + 0.5) * wave / side) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def _transform_sides(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """x (B, C, *sides) with each side multiplied by its matrix."""
    for axis, matrix in enumerate(matrices, 2):
        x = (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return x
