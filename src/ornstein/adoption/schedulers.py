"""Schedulers of diffusers: the chain that a model was trained on, what it predicts, and how its x-hat is limited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ornstein.adoption.unet import configured, diffusers
from ornstein.diffusion.estimate import LEAST_SIGNAL
from ornstein.diffusion.schedule import MOST_STEPS, Chain
from ornstein.names import find, real, require, shown

__all__ = ["Scheduled", "scheduled"]

KNOWN = ("DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
         "DEISMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler",
         "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
         "KDPM2AncestralDiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler")
PREDICTS = {"epsilon": "eps", "sample": "x", "v_prediction": "v"}
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
FLOWS = ("use_flow_sigmas", "use_dynamic_shifting")


class Scheduled(NamedTuple):
    """What a scheduler says of the model that it draws from."""

    chain: Chain
    predicts: str
    x_range: tuple[float, float] | None
    threshold: tuple[float, float] | None
    notes: tuple[str, ...] = ()


def scheduled(config: Any, what: str = "scheduler_config.json") -> Scheduled:
    """What a scheduler's configuration says; ValueError for one that is of no diffusion model, or that is broken."""
    name = config.get("_class_name") if isinstance(config, Mapping) else None
    if name not in KNOWN:
        raise ValueError(f"{what} is of {shown(name)}, which is not the scheduler of a diffusion chain (known: "
                         f"{', '.join(KNOWN)})")
    options = configured(what, getattr(diffusers(), name), config)
    if flow := next((key for key in FLOWS if options.get(key)), None):
        raise ValueError(f"{what} {flow} is true: it is of a flow; adopt the module with convention='flow'")
    predicts = find(f"{what} prediction_type", options["prediction_type"], PREDICTS)
    beta, leaps = _betas(options, what), bool(options.get("rescale_betas_zero_snr"))
    notes = []
    if predicts == "eps" and leaps:
        raise ValueError(f"{what} has rescale_betas_zero_snr and the prediction_type 'epsilon': at pure noise a "
                         "prediction of the noise says nothing of the data; such a model cannot be sampled from there")
    try:
        chain = Chain(beta)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if predicts == "eps":
        enough = int((chain.alpha[1:].sqrt() >= LEAST_SIGNAL).sum())
        if not enough:
            raise ValueError(f"{what} leaves no signal after the first step, from which a prediction of the noise says "
                             "nothing of the data")
        if enough < len(beta):
            notes.append(f"the last {len(beta) - enough} of {len(beta)} steps are left out: with so little signal "
                         "a prediction of the noise says nothing of the data")
            chain = Chain(beta[:enough])
    for key in ("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"):
        if real(f"{what} {key}", options.get(key, 1)) <= 0 or (key.endswith("ratio") and options.get(key, 1) > 1):
            raise ValueError(f"{what} {key} is {shown(options[key])}; it must be above 0"
                             + " and at most 1" * key.endswith("ratio"))
    threshold, limit = None, None
    if options.get("thresholding"):
        threshold = options["dynamic_thresholding_ratio"], max(options["sample_max_value"], 1.0)
    elif options.get("clip_sample"):
        limit = -options["clip_sample_range"], options["clip_sample_range"]
    return Scheduled(chain, predicts, limit, threshold, tuple(notes))


def _betas(options: Mapping[str, Any], what: str) -> torch.Tensor:
    """The betas as diffusers makes them, float64."""
    steps, given = options["num_train_timesteps"], options["trained_betas"]
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"{what} num_train_timesteps is {shown(steps)}; it must be a whole number from 1 to "
                         f"{MOST_STEPS}")
    if given is not None and not (isinstance(given, list | tuple) and all(
            isinstance(one, int | float) and not isinstance(one, bool) for one in given)):
        raise ValueError(f"{what} trained_betas is {shown(given)}; it must be a list of numbers")
    require(f"{what} beta_schedule", options["beta_schedule"],
            ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"))
    scheduler = diffusers().DDPMScheduler(**{name: options[name] for name in BETAS if name in options})
    return scheduler.betas.double()
