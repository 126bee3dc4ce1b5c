"""A run's model with weights averaged over another width, after the training."""

from __future__ import annotations

from pathlib import Path

from ornstein import checkpoint
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.isolation import isolated
from ornstein.training.run import Run

__all__ = ["reaverage"]


@isolated(gradients=False)
def reaverage(run: str | Path, width: float, images: int | None = None) -> tuple[NetworkDenoiser, float]:
    """A run's model with an average of its weights of any width, after the training (Karras et al. 2024).

    Args:
        run: the run's folder.
        width: relative width of the average, in (0, 0.28]; the training itself uses `average`, 0.05 by default.
        images: pictures seen at the end of the average, at one of the stored snapshots; the last by default.

    Returns:
        The denoiser, and the relative error of the reconstructed averaging profile.

    Raises:
        FileNotFoundError: the run has no model.
        ValueError: no snapshots, a width out of range, or images at which no snapshot was stored.
    """
    model = checkpoint.load(run)
    weights, error = Run(run).snapshots.combine(width, images)
    for name, value in model.network.named_parameters():
        value.copy_(weights[name])
    return model, error
