"""Schedulers of diffusers: a model's schedule, its convention, and the limits of x-hat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ornstein.adoption.unet import class_options, diffusers
from ornstein.arguments import find, require, require_float, short_repr
from ornstein.diffusion.estimate import MIN_SIGNAL
from ornstein.diffusion.schedule import MAX_STEPS, Chain, Exploding, Linear, Schedule

__all__ = ["Scheduler", "read_scheduler"]

CHAINS = ("DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
          "DEISMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler",
          "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
          "KDPM2AncestralDiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler")
EXPLODING = ("ScoreSdeVeScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
STRAIGHT = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
PREDICTS = {"epsilon": "eps", "sample": "x", "v_prediction": "v"}
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
EDM_CONVENTIONS = {"epsilon": "edm-inside", "v_prediction": "edm-v"}
FLOW_PREDICTION = "flow_prediction"


class Scheduler(NamedTuple):
    """The description of a model by its scheduler."""

    schedule: Schedule
    convention: str
    x_range: tuple[float, float] | None = None
    threshold: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    number: float | None = None  # parameter of the convention


def read_scheduler(config: Any, source: str = "scheduler_config.json") -> Scheduler:
    """Read the configuration of a scheduler; ValueError if it is broken, or not of a diffusion model."""
    name, known = config.get("_class_name") if isinstance(config, Mapping) else None, (*CHAINS, *EXPLODING, *STRAIGHT)
    if name not in known:
        raise ValueError(f"{source} is of {short_repr(name)}, which is not the scheduler of a diffusion model that can "
                         f"be adopted (known: {', '.join(known)})")
    options = class_options(source, getattr(diffusers(), name), config)
    x_range, threshold = _limits(options, source)
    if name in STRAIGHT or options.get("use_flow_sigmas"):
        return _straight(options, source, name in STRAIGHT)._replace(threshold=threshold)
    kind = options.get("timestep_type"), options.get("prediction_type")
    if name in EXPLODING or kind == ("continuous", "v_prediction"):  # EDM, for EulerDiscreteScheduler
        return _exploding(options, source)._replace(threshold=threshold)
    predicts = find(f"{source} prediction_type", options["prediction_type"], PREDICTS)
    beta = _betas(options, source)
    notes = []
    if predicts == "eps" and options.get("rescale_betas_zero_snr"):
        raise ValueError(f"{source} has rescale_betas_zero_snr and the prediction_type 'epsilon': at pure noise a "
                         "prediction of the noise says nothing of the data; such a model cannot be sampled from there")
    try:
        chain = Chain(beta)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if predicts == "eps":
        usable = int((chain.alpha[1:].sqrt() >= MIN_SIGNAL).sum())
        if not usable:
            raise ValueError(f"{source} leaves no signal after the first step, from which a prediction of the noise "
                             "says nothing of the data")
        if usable < len(beta):
            notes.append(f"the last {len(beta) - usable} of {len(beta)} steps are left out: with so little signal "
                         "a prediction of the noise says nothing of the data")
            chain = Chain(beta[:usable])
    return Scheduler(chain, predicts, x_range, threshold, tuple(notes))


def _straight(options: Mapping[str, Any], source: str, is_flow: bool) -> Scheduler:
    """Read a scheduler of flow matching; its shift of times concerns samplers, not the model."""
    if options.get("invert_sigmas"):
        raise ValueError(f"{source} invert_sigmas is true: its times run from noise to data; adopt the module with "
                         "convention='flow_matching'")
    if not is_flow:
        require(f"{source} prediction_type", options["prediction_type"], [FLOW_PREDICTION])
    return Scheduler(Linear(), "flow", number=float(_steps(options, source)))


def _exploding(options: Mapping[str, Any], source: str) -> Scheduler:
    """Read a scheduler of a model whose network takes the noise itself, or its logarithm."""
    try:
        schedule = Exploding(options["sigma_min"], options["sigma_max"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error}") from None
    if "prediction_type" not in options:
        return Scheduler(schedule, "score")
    # EulerDiscreteScheduler has no sigma_data, and uses 1.
    deviation = require_float(f"{source} sigma_data", options.get("sigma_data", 1.0))
    if deviation <= 0:
        raise ValueError(f"{source} sigma_data is {short_repr(deviation)}; it must be above 0")
    return Scheduler(schedule, find(f"{source} prediction_type", options["prediction_type"], EDM_CONVENTIONS),
                     number=deviation)


def _limits(options: Mapping[str, Any], source: str) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """The range to which x-hat is clamped, and the ratio and the maximum of dynamic thresholding."""
    for key in ("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"):
        value = require_float(f"{source} {key}", options.get(key, 1))
        if value <= 0 or (key.endswith("ratio") and value > 1):
            raise ValueError(f"{source} {key} is {short_repr(options[key])}; it must be above 0"
                             + " and at most 1" * key.endswith("ratio"))
    if options.get("thresholding"):
        return None, (options["dynamic_thresholding_ratio"], max(options["sample_max_value"], 1.0))
    return (-options["clip_sample_range"], options["clip_sample_range"]) if options.get("clip_sample") else None, None


def _steps(options: Mapping[str, Any], source: str) -> int:
    steps = options["num_train_timesteps"]
    if type(steps) is not int or not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"{source} num_train_timesteps is {short_repr(steps)}; it must be a whole number from 1 to "
                         f"{MAX_STEPS}")
    return steps


def _betas(options: Mapping[str, Any], source: str) -> torch.Tensor:
    """The betas that diffusers computes, float64."""
    betas = options["trained_betas"]
    _steps(options, source)
    if betas is not None and not (isinstance(betas, list | tuple) and all(
            isinstance(beta, int | float) and not isinstance(beta, bool) for beta in betas)):
        raise ValueError(f"{source} trained_betas is {short_repr(betas)}; it must be a list of numbers")
    require(f"{source} beta_schedule", options["beta_schedule"],
            ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"))
    scheduler = diffusers().DDPMScheduler(**{name: options[name] for name in BETAS if name in options})
    return scheduler.betas.double()
