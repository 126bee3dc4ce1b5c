"""A run's model with its weights averaged over another length, after the training."""

from __future__ import annotations

from pathlib import Path

from ornstein import checkpoint
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.isolation import isolated
from ornstein.training.run import Run

__all__ = ["reaverage"]


@isolated(gradients=False)
def reaverage(run: str | Path, width: float, images: int | None = None) -> tuple[NetworkDenoiser, float]:
    """A run's model with an average of its weights of any length, after the training (Karras et al. 2024).

    Args:
        run: the run's folder.
        width: relative width of the average, in (0, 0.28]; training itself keeps `average`, 0.05 unless set.
        images: pictures seen at its end, one of the places at which averages were kept; the last by default.

    Returns:
        The denoiser, and by what share of its own size the sum of the kept profiles misses the wanted one.

    Raises:
        FileNotFoundError: no model there.
        ValueError: no averages, a width outside its range, or images at which none was kept.
    """
    model = checkpoint.load(run)
    weights, missed = Run(run).snapshots.combine(width, images)
    for name, value in model.network.named_parameters():
        value.copy_(weights[name])
    return model, missed
