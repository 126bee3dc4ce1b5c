"""The description of an adopted model in its file, and the model built from it after checking every entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.adoption.adopted import Adopted
from ornstein.adoption.onnx import OnnxNetwork
from ornstein.adoption.sources import Function
from ornstein.adoption.unet import Unet, build_unet, unet_options
from ornstein.arguments import require, short_repr
from ornstein.data.spec import DataSpec
from ornstein.diffusion.schedule import Schedule

__all__ = ["build_adopted", "build_network", "describe_adopted"]

PREFIX = "network."
ENTRIES = {"convention": str, "time": str, "number": float | None, "classes": int, "null": int | None,
           "threshold": list | None, "origin": str, "trained_on": str | None, "measured": bool, "network": dict | None}


def describe_adopted(model: Adopted) -> dict[str, Any]:
    """Describe what an adopted model has beside any other model, as plain JSON values."""
    network, entry = model.network, None
    if isinstance(network, Function):
        raise TypeError(f"model is around a {model.origin}, which cannot be saved; make it a torch.nn.Module and adopt "
                        "that")
    if isinstance(network, Unet):
        config = {name: value for name, value in network.unet.config.items() if not name.startswith("_")}
        entry = {"name": "UNet2DModel", "options": config}
    elif isinstance(network, OnnxNetwork):
        entry = {"name": "onnx", "options": {"inputs": network.inputs, "output": network.output}}
    return {**model.describe(), "network": entry}


def _read_description(value: Any) -> dict[str, Any]:
    """Check that a description has all entries, with their types."""
    if not isinstance(value, Mapping):
        raise ValueError(f"adopted is {short_repr(value)}; it must be a table of names and values")
    value = {"number": None, **value}  # absent from the first files
    for name, kind in ENTRIES.items():
        if name not in value or not isinstance(value[name], kind) or isinstance(value[name], bool) != (kind is bool):
            raise ValueError(f"adopted {name} is {short_repr(value.get(name))}; it must be of another type")
    return dict(value)


def build_network(value: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build the network of an adopted model, without weights; ValueError for a user's own, or an impossible one."""
    entry = _read_description(value)["network"]
    if entry is None:
        raise ValueError("the model has a network of its user's own; give it: load(path, network=...)")
    options = entry.get("options")
    if not isinstance(options, dict):
        raise ValueError(f"options of the network is {short_repr(options)}; it must be a table")
    if require("network", entry.get("name"), ("UNet2DModel", "onnx")) == "UNet2DModel":
        return Unet(build_unet(unet_options(options, "the network"), tensors))
    graph = tensors.get(f"{PREFIX}model")
    if graph is None or graph.dtype is not torch.uint8 or graph.ndim != 1:
        raise ValueError("the file holds no ONNX graph (network.model)")
    if set(options) != {"inputs", "output"} or not isinstance(options["inputs"], dict) or not all(
            isinstance(name, str) for name in (*options["inputs"].values(), options["output"])):
        raise ValueError(f"options of the network is {short_repr(options)}; it must have inputs and output by name")
    return OnnxNetwork(graph, options["inputs"], options["output"])


def build_adopted(value: Any, network: nn.Module, schedule: Schedule, shape: list[int], data: DataSpec | None,
                  facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Adopted:
    """Build an adopted model around its network."""
    entries = _read_description(value)
    threshold, measured = entries["threshold"], entries["measured"]
    if threshold is not None and len(threshold) != 2:
        raise ValueError(f"adopted threshold is {short_repr(threshold)}; it must be two numbers, or null")
    for name in ("data_mean", "data_std"):
        if measured and list(tensors[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}; it must be {tuple(shape)}")
    return Adopted(network, schedule, shape, entries["convention"], time=entries["time"],
                   number=entries["number"], classes=entries["classes"], null=entries["null"],
                   x_range=facts["x_range"], threshold=None if threshold is None else (threshold[0], threshold[1]),
                   data=data, origin=entries["origin"], trained_on=entries["trained_on"],
                   data_mean=tensors["data_mean"] if measured else None,
                   data_std=tensors["data_std"] if measured else None)
