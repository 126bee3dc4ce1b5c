"""The description of a model in its file: plain JSON values, all checked before anything is built from them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.adoption.adopted import Adopted
from ornstein.adoption.stored import build_adopted, build_network, describe_adopted
from ornstein.arguments import construct, find, printable, require, require_ints, short_repr
from ornstein.data import DataSpec
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.estimate import PREDICTIONS
from ornstein.diffusion.linear import LinearGuess
from ornstein.diffusion.schedule import SCHEDULES, Schedule
from ornstein.networks import NETWORKS, build, set_memory_format

__all__ = ["assemble", "describe"]

MAX_VALUES = 2**40  # of one sample
ENTRIES = ("network", "schedule", "shape", "predicts", "log_snr_range", "x_range", "precision", "data", "metrics")
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def describe(model: NetworkDenoiser) -> dict[str, Any]:
    """Describe a model beside its tensors, as plain JSON values."""
    network = next((name for name, kind in NETWORKS.items() if type(model.network) is kind), None)
    schedule = next((name for name, kind in SCHEDULES.items() if type(model.schedule) is kind), None)
    return {
        "network": None if network is None else {"name": network, "options": model.network.options},
        "schedule": None if schedule is None else {"name": schedule, "options": model.schedule.settings()},
        "shape": list(model.shape),
        "predicts": model.predicts,
        "log_snr_range": list(model.log_snr_range),
        "x_range": None if model.x_range is None else list(model.x_range),
        "precision": model.precision,
        "data": None if model.data is None else model.data.as_dict(),
        "metrics": model.metrics,
        **({"adopted": describe_adopted(model)} if isinstance(model, Adopted) else {}),
        # Left out of an untuned model, whose file is then as it was before tuning existed.
        **({"tuned": [choice.as_dict() for choice in sorted(
            model.tuned.values(), key=lambda choice: (choice.nfe, choice.guidance))]} if model.tuned else {}),
    }


def assemble(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], network: nn.Module | None = None,
             schedule: Schedule | None = None) -> NetworkDenoiser:
    """Build a model from its tensors and its untrusted description; nothing larger than the tensors is allocated.

    A network or schedule of the user's own replaces the described one. ValueError names what is missing, out of range,
    not finite, or contradictory.
    """
    for name in ENTRIES:
        if name not in facts:
            raise ValueError(f"it lacks {name!r}, as a training state does; name the model.safetensors of a run")
    shape = require_ints("shape", facts["shape"])
    if math.prod(shape) > MAX_VALUES:
        raise ValueError(f"shape is {short_repr(shape)}; a sample holds at most {MAX_VALUES} values")
    predicts = require("predicts", facts["predicts"], PREDICTIONS)
    metrics = _table("metrics", facts["metrics"])
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None) or (
                isinstance(value, int) and abs(value) > MAX_VALUES):
            raise ValueError(f"metrics {short_repr(name)} is {short_repr(value)}; it must be a number, or null")
    data = None if facts["data"] is None else DataSpec.from_dict(facts["data"])
    if data is not None and list(data.shape) != shape:
        raise ValueError(f"shape is {short_repr(shape)}, that of its data {list(data.shape)}; they must agree")
    if schedule is None:
        schedule = _schedule(facts["schedule"])
    adopted = facts.get("adopted")
    is_foreign = network is not None or adopted is not None
    if network is None:
        network = (_network(facts["network"], tensors, shape, data) if adopted is None else
                   build_network(adopted, tensors))
    _check_others(tensors, shape, is_foreign)
    _check_network(tensors, network, is_foreign)
    if adopted is not None:
        model = build_adopted(adopted, network, schedule, shape, data, facts, tensors)
        model.load_state_dict(dict(tensors), strict=True, assign=True)
        model.metrics = dict(metrics)
        return model
    linear = None
    if "linear.variance" in tensors:
        linear = LinearGuess(tensors["linear.variance"], tensors.get("linear.basis"), tensors["linear.rest"],
                             tensors.get("linear.shape"))
    model = NetworkDenoiser(network, schedule, shape, predicts, tensors["data_std"], tensors["data_mean"],
                            facts["log_snr_range"], linear, facts["x_range"], data, facts["precision"],
                            tensors.get("condition_mean"), tensors.get("condition_std"))
    model.load_state_dict(dict(tensors), strict=True, assign=True)
    set_memory_format(model.network)
    model.metrics = dict(metrics)
    return model


def _table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {short_repr(value)}; it must be a table of names and values")
    return value


def _name_and_options(part: str, value: Any) -> tuple[str, dict[str, Any]]:
    """Name and options of a network or a schedule; the options are not checked yet."""
    if value is None:
        raise ValueError(f"the model has a {part} of its user's own; give it: load(path, {part}=...)")
    table = _table(part, value)
    if "name" not in table or "options" not in table:
        raise ValueError(f"{part} is {short_repr(value)}; it must have a name and options")
    return table["name"], _table(f"options of the {part}", table["options"])


def _schedule(value: Any) -> Schedule:
    name, options = _name_and_options("schedule", value)
    schedule_class = find("schedule", name, SCHEDULES)
    for option in inspect.signature(schedule_class).parameters:
        if option not in options:  # a default may not be what the model was trained on
            raise ValueError(f"schedule {name!r} has no {option}")
    return construct(f"schedule {name!r}", schedule_class, options)


def _network(value: Any, tensors: Mapping[str, Tensor], shape: list[int], data: DataSpec | None) -> nn.Module:
    """Build a network without storage, refusing a description of more than the file holds."""
    name, options = _name_and_options("network", value)
    values = sum(tensor.numel() for tensor in tensors.values())
    for option, entry in options.items():
        if option == "shape":
            continue
        entries = entry if isinstance(entry, list) else [entry]
        numbers = [number for number in entries if isinstance(number, int)]
        blocks = sum(numbers) if option in ("depth", "depths") else 0
        if max(len(entries), blocks) > len(tensors) or any(number > values for number in numbers):
            raise ValueError(f"the file holds another network: {short_repr(option)} is {short_repr(entry)}, but it has "
                             f"{len(tensors)} tensors of {values} values")
    if options.get("shape") != shape:
        raise ValueError(f"shape is {short_repr(shape)}, that of its network {short_repr(options.get('shape'))}; they "
                         "must agree")
    try:
        with torch.device("meta"):
            network = build(name, options)
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"the file describes an impossible network: {' '.join(str(error).split())}") from None
    for kind, names in (("classes", data.classes if data else ()), ("conditions", data.conditions if data else ())):
        if options.get(kind) and names and options[kind] != len(names):
            raise ValueError(f"{kind} is {options[kind]}, and its data have {len(names)}; they must agree")
    means = tensors.get("condition_mean")
    if means is not None and options.get("conditions", 0) != means.numel():
        raise ValueError(f"conditions is {options.get('conditions', 0)}, and there are {means.numel()} means of them; "
                         "they must agree")
    return network


def _check_network(tensors: Mapping[str, Tensor], network: nn.Module, is_foreign: bool) -> None:
    """Check the names, shapes and values of the network's tensors."""
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    actual = {name.removeprefix("network."): tuple(value.shape) for name, value in tensors.items()
              if name.startswith("network.")}
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            raise ValueError(f"the file holds another network: {printable(name)} is {actual.get(name, 'missing')}, "
                             f"the network's is {expected.get(name, 'missing')}")
    may_be_infinite = {f"network.{name}" for name, _ in network.named_buffers()} if is_foreign else set()
    for name, value in tensors.items():
        if name not in may_be_infinite and value.is_floating_point() and not (
                value if value.dtype in FLOATS else value.float()).isfinite().all():
            raise ValueError(f"{short_repr(name)} holds values that are not finite: the training diverged, or somebody "
                             "changed them; train the model again")


def _check_others(tensors: Mapping[str, Tensor], shape: list[int], is_foreign: bool) -> None:
    """Check the names and dtypes of all tensors but the network's, and shapes that nothing else checks."""
    known = {"data_std", "data_mean", "condition_mean", "condition_std", "linear.variance", "linear.basis",
             "linear.rest", "linear.shape"}
    required = {"data_std", "data_mean", *({"linear.variance", "linear.rest"}
                                           if any(name.startswith("linear.") for name in tensors) else ())}
    for name in sorted(required | {name for name in tensors if not name.startswith("network.")}):
        if name not in known or name not in tensors:
            raise ValueError(f"tensor {short_repr(name)} is {'missing' if name in known else 'unknown'}")
    dtype = tensors["data_std"].dtype
    for name, value in tensors.items():
        if is_foreign and name.startswith("network."):
            continue
        expected = torch.int64 if name == "linear.shape" else dtype
        if value.dtype is not expected or dtype not in FLOATS:
            raise ValueError(f"{short_repr(name)} is {value.dtype}; it must be "
                             f"{expected if dtype in FLOATS else 'float32'}")
    size, variance = math.prod(shape), tensors.get("linear.variance")
    sides, basis = tensors.get("linear.shape"), tensors.get("linear.basis")
    if sides is not None and (sides.numel() != len(shape) or sides.flatten().tolist() != shape):
        raise ValueError(f"linear.shape is not that of a sample, {short_repr(shape)}")
    if basis is not None and (basis.ndim != 2 or basis.shape[1] != size or len(basis) > size):
        raise ValueError(f"linear.basis has shape {tuple(basis.shape)}; it must be at most {size} rows of {size}")
    if variance is not None and basis is None and tuple(variance.shape) != (size,):
        raise ValueError(f"linear.variance has shape {tuple(variance.shape)}; it must be ({size},)")
