"""Schedulers of diffusers: the schedule that a model was trained on, what it predicts, and how x-hat is limited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ornstein.adoption.unet import configured, diffusers
from ornstein.arguments import find, require, require_float, short_repr
from ornstein.diffusion.estimate import LEAST_SIGNAL
from ornstein.diffusion.schedule import MOST_STEPS, Chain, Exploding, Linear, Schedule

__all__ = ["Scheduled", "scheduled"]

KNOWN = ("DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
         "DEISMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler",
         "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
         "KDPM2AncestralDiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler")
SIGMAS = ("ScoreSdeVeScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
STRAIGHT = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
PREDICTS = {"epsilon": "eps", "sample": "x", "v_prediction": "v"}
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
INSIDE = {"epsilon": "edm-inside", "v_prediction": "edm-v"}
FLOW = "flow_prediction"


class Scheduled(NamedTuple):
    """What a scheduler says of the model that it draws from."""

    schedule: Schedule
    convention: str
    x_range: tuple[float, float] | None = None
    threshold: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    number: float | None = None  # of the convention


def scheduled(config: Any, what: str = "scheduler_config.json") -> Scheduled:
    """What a scheduler's configuration says; ValueError for one that is of no diffusion model, or that is broken."""
    name, known = config.get("_class_name") if isinstance(config, Mapping) else None, (*KNOWN, *SIGMAS, *STRAIGHT)
    if name not in known:
        raise ValueError(f"{what} is of {short_repr(name)}, which is not the scheduler of a diffusion model that can "
                         f"be adopted (known: {', '.join(known)})")
    options = configured(what, getattr(diffusers(), name), config)
    limit, threshold = _limits(options, what)
    if name in STRAIGHT or options.get("use_flow_sigmas"):
        return _straight(options, what, name in STRAIGHT)._replace(threshold=threshold)
    told = options.get("timestep_type"), options.get("prediction_type")
    if name in SIGMAS or told == ("continuous", "v_prediction"):  # by which EulerDiscreteScheduler means EDM
        return _exploding(options, what)._replace(threshold=threshold)
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
    return Scheduled(chain, predicts, limit, threshold, tuple(notes))


def _straight(options: Mapping[str, Any], what: str, always: bool) -> Scheduled:
    """What a scheduler of flow matching says: which times it shifts to is for samplers, and none of the model's."""
    if options.get("invert_sigmas"):
        raise ValueError(f"{what} invert_sigmas is true: its times run from noise to data; adopt the module with "
                         "convention='flow_matching'")
    if not always:
        find(f"{what} prediction_type", options["prediction_type"], {FLOW: FLOW})
    return Scheduled(Linear(), "flow", number=float(_steps(options, what)))


def _exploding(options: Mapping[str, Any], what: str) -> Scheduled:
    """What a scheduler says whose model is told the noise itself, or its logarithm."""
    try:
        schedule = Exploding(options["sigma_min"], options["sigma_max"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from None
    if "prediction_type" not in options:
        return Scheduled(schedule, "score")
    # Without one of its own the deviation is 1, as EulerDiscreteScheduler has it.
    deviation = require_float(f"{what} sigma_data", options.get("sigma_data", 1.0))
    if deviation <= 0:
        raise ValueError(f"{what} sigma_data is {short_repr(deviation)}; it must be above 0")
    return Scheduled(schedule, find(f"{what} prediction_type", options["prediction_type"], INSIDE), number=deviation)


def _limits(options: Mapping[str, Any], what: str) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """The range that x-hat is clamped to, and the ratio and most of its thresholding."""
    for key in ("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"):
        value = require_float(f"{what} {key}", options.get(key, 1))
        if value <= 0 or (key.endswith("ratio") and value > 1):
            raise ValueError(f"{what} {key} is {short_repr(options[key])}; it must be above 0"
                             + " and at most 1" * key.endswith("ratio"))
    if options.get("thresholding"):
        return None, (options["dynamic_thresholding_ratio"], max(options["sample_max_value"], 1.0))
    return (-options["clip_sample_range"], options["clip_sample_range"]) if options.get("clip_sample") else None, None


def _steps(options: Mapping[str, Any], what: str) -> int:
    steps = options["num_train_timesteps"]
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"{what} num_train_timesteps is {short_repr(steps)}; it must be a whole number from 1 to "
                         f"{MOST_STEPS}")
    return steps


def _betas(options: Mapping[str, Any], what: str) -> torch.Tensor:
    """The betas as diffusers makes them, float64."""
    given = options["trained_betas"]
    _steps(options, what)
    if given is not None and not (isinstance(given, list | tuple) and all(
            isinstance(one, int | float) and not isinstance(one, bool) for one in given)):
        raise ValueError(f"{what} trained_betas is {short_repr(given)}; it must be a list of numbers")
    require(f"{what} beta_schedule", options["beta_schedule"],
            ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"))
    scheduler = diffusers().DDPMScheduler(**{name: options[name] for name in BETAS if name in options})
    return scheduler.betas.double()
