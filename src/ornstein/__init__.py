"""Ornstein: diffusion models on your own data, with every formula of the chapter as an object that a test proves."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0"

# The public names and the room each lives in; a room is imported when its name is first used.
_ROOMS = {
    "ornstein.checkpoint": ("load", "save"),
    "ornstein.data": ("DataSpec", "Dataset", "load_data"),
    "ornstein.diffusion.damping": ("Damped",),
    "ornstein.diffusion.decoder": ("Decoder",),
    "ornstein.diffusion.denoiser": ("Denoiser", "NetworkDenoiser"),
    "ornstein.diffusion.encoder": ("Encoder", "draw"),
    "ornstein.diffusion.estimate": ("Estimate",),
    "ornstein.diffusion.exact": ("ExactDataset", "ExactGaussian", "ExactMixture"),
    "ornstein.diffusion.guidance": ("Guided",),
    "ornstein.diffusion.likelihood": ("Bound", "Flow", "bound_times", "continuous_elbo", "dequantise", "elbo",
                                      "ode_likelihood", "ode_log_prob", "optimal_variance"),
    "ornstein.diffusion.loss": ("denoising_loss",),
    "ornstein.diffusion.samplers": ("generate", "sample", "samplers"),
    "ornstein.diffusion.samplers.rule": ("Rule", "Step"),
    "ornstein.diffusion.score": ("denoising_score_loss", "explicit_score_loss", "implicit_score_loss", "level_losses"),
    "ornstein.diffusion.schedule": ("Chain", "Cosine", "Exploding", "Level", "Linear", "Schedule", "grid"),
    "ornstein.evaluation.compare": ("write_report",),
    "ornstein.evaluation.evaluate": ("evaluate",),
    "ornstein.evaluation.report": ("Report",),
    "ornstein.networks": ("DiT", "MLP", "UNet"),
    "ornstein.settings": ("Settings",),
    "ornstein.training.reaverage": ("reaverage",),
    "ornstein.training.trackers": ("TensorBoard", "Tracker"),
    "ornstein.training.trainer": ("Trainer",),
    "ornstein.tuning": ("tune",),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ornstein' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
