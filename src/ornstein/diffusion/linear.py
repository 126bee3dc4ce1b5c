"""The best linear guess: what a Gaussian fitted to the data already knows, so that a network need not learn it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ornstein.diffusion.schedule import Level

__all__ = ["LinearGuess"]


class LinearGuess(nn.Module):
    """E[v | y] for centred Gaussian data of low-rank-plus-isotropic covariance.

    With (c, s) the shares of signal and noise in y and p the variance along a direction,

        E[v | y] = c s (1 - p) / (c^2 p + s^2) y   along it:

    the Wiener filter, which is `ExactGaussian` written for y. With p = 1 in every direction it is 0, the skip
    connection of Karras et al. 2022; a covariance extends that preconditioning from one number to many.

    Args:
        basis: (K, D) orthonormal rows, the principal directions of the data.
        variance: (K,) variances >= 0 along them.
        rest: variance >= 0 in every direction that the basis leaves out.

    Raises:
        ValueError: shapes that do not fit, rows that are not orthonormal, or a negative variance.
    """

    basis: Tensor
    variance: Tensor
    rest: Tensor

    def __init__(self, basis: Tensor, variance: Tensor, rest: Tensor | float) -> None:
        super().__init__()
        rest = torch.as_tensor(rest, dtype=torch.float32)
        if basis.ndim != 2 or variance.shape != basis.shape[:1] or rest.ndim:
            raise ValueError(f"basis has shape {tuple(basis.shape)}, variance {tuple(variance.shape)} and rest "
                             f"{tuple(rest.shape)}; they must be (K, D), (K,) and ()")
        if not (variance >= 0).all() or not rest >= 0:
            raise ValueError("variance and rest must be >= 0")
        if not torch.allclose(basis @ basis.T, torch.eye(len(basis)).to(basis), atol=1e-4):
            raise ValueError("basis has rows that are not orthonormal")
        self.register_buffer("basis", basis.float())
        self.register_buffer("variance", variance.float())
        self.register_buffer("rest", rest)

    @classmethod
    def fit(cls, x: Tensor, most: int = 256) -> LinearGuess:
        """The principal directions of centred data of mean variance 1.

        Args:
            x: (N, ...) data, flattened to rows.
            most: directions kept, at most; fewer where N or D is smaller.

        Returns:
            A guess whose total variance is that of x.
        """
        rows = x.flatten(1).double()
        keep = min(most, len(rows), rows.shape[1])
        if rows.shape[1] <= 1024:
            variance, basis = torch.linalg.eigh(rows.T @ rows / len(rows))
            variance, basis = variance.flip(0)[:keep], basis.flip(1)[:, :keep].T
        else:
            from sklearn.decomposition import PCA

            # An uncentred decomposition: the caller has taken the mean away.
            fitted = PCA(keep, svd_solver="randomized", random_state=0).fit(rows.float().numpy())
            basis = torch.from_numpy(fitted.components_).double()
            variance = torch.from_numpy(fitted.explained_variance_).double()
        variance = variance.clamp(min=0)
        left = rows.shape[1] - keep
        rest = (rows.square().sum(1).mean() - variance.sum()).clamp(min=0) / left if left else torch.zeros(())
        return cls(basis, variance, rest)

    def forward(self, y: Tensor, level: Level) -> Tensor:
        """E[v | y] for y = c x + s eps of unit radius; y (B, ...), level entries () or (B, 1, ...); like y."""
        signal, noise = ((entry / level.radius).reshape(-1, 1) for entry in level)
        rest = _gain(signal, noise, self.rest)
        rows = y.flatten(1)
        along = (rows @ self.basis.T) * (_gain(signal, noise, self.variance) - rest)
        return (along @ self.basis + rest * rows).reshape(y.shape)


def _gain(signal: Tensor, noise: Tensor, variance: Tensor) -> Tensor:
    total = signal**2 * variance + noise**2
    return torch.where(total > 0, signal * noise * (1 - variance) / total.clamp(min=torch.finfo(total.dtype).tiny), 0)
