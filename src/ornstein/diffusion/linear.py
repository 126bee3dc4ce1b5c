"""The best linear guess: what a Gaussian fitted to the data already knows, so that a network need not learn it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ornstein.diffusion.schedule import Level
from ornstein.names import require

__all__ = ["KINDS", "LinearGuess"]

KINDS = ("diagonal", "principal")


class LinearGuess(nn.Module):
    """E[v | y] for centred Gaussian data with given variances along given directions.

    With (c, s) the shares of signal and noise in y and p the variance along a direction,

        E[v | y] = c s (1 - p) / (c^2 p + s^2) y   along it:

    the Wiener filter, which is `ExactGaussian` written for y. With p = 1 in every direction it is 0, the skip
    connection of Karras et al. 2022; variances extend that preconditioning from one number to many.

    Args:
        variance: (D,) variances >= 0 of the values, or (K,) along the rows of `basis`.
        basis: (K, D) orthonormal rows, or None for the values themselves.
        rest: variance >= 0 in every direction that the basis leaves out.

    Raises:
        ValueError: shapes that do not fit, rows that are not orthonormal, or a negative variance.
    """

    variance: Tensor
    basis: Tensor | None
    rest: Tensor

    def __init__(self, variance: Tensor, basis: Tensor | None = None, rest: Tensor | float = 1.0) -> None:
        super().__init__()
        rest = torch.as_tensor(rest, dtype=torch.float32)
        if variance.ndim != 1 or rest.ndim or (basis is not None and basis.shape[:1] != variance.shape):
            raise ValueError(f"variance has shape {tuple(variance.shape)}, rest {tuple(rest.shape)} and basis "
                             f"{None if basis is None else tuple(basis.shape)}; they must be (K,), () and (K, D)")
        if not (variance >= 0).all() or not rest >= 0:
            raise ValueError(f"the least variance is {min(float(variance.min()), float(rest))}; variances must be >= 0")
        if basis is not None and not torch.allclose(basis @ basis.T, torch.eye(len(basis)).to(basis), atol=1e-4):
            raise ValueError("basis has rows that are not orthonormal")
        self.register_buffer("variance", variance.float())
        self.register_buffer("basis", None if basis is None else basis.float())
        self.register_buffer("rest", rest)

    @classmethod
    def fit(cls, x: Tensor, kind: str = "diagonal", most: int = 256) -> LinearGuess:
        """The variances of centred data.

        Args:
            x: (N, ...) data of mean 0, flattened to rows.
            kind: "diagonal", the variance of each value, or "principal", those along the principal directions.
            most: directions kept, at most; fewer where N or D is smaller.

        Raises:
            ValueError: an unknown kind.
        """
        require("linear", kind, KINDS)
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
        signal, noise = ((entry / level.radius).reshape(-1, 1) for entry in level)
        rows = y.flatten(1)
        gain = _gain(signal, noise, self.variance.to(y))
        if self.basis is None:
            return (gain * rows).reshape(y.shape)
        rest, basis = _gain(signal, noise, self.rest.to(y)), self.basis.to(y)
        return ((rows @ basis.T) * (gain - rest) @ basis + rest * rows).reshape(y.shape)


def _gain(signal: Tensor, noise: Tensor, variance: Tensor) -> Tensor:
    total = signal**2 * variance + noise**2
    return torch.where(total > 0, signal * noise * (1 - variance) / total.clamp(min=torch.finfo(total.dtype).tiny), 0)
