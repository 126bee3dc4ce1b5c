"""What a file says of an adopted model, and the model from it, each entry checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.adoption.adopted import Adopted
from ornstein.adoption.onnx import OnnxNetwork
from ornstein.adoption.sources import Function
from ornstein.adoption.unet import Unet, build, checked
from ornstein.arguments import require, short_repr
from ornstein.data.spec import DataSpec
from ornstein.diffusion.schedule import Schedule

__all__ = ["card", "made", "rebuilt"]

PREFIX = "network."
ENTRIES = {"convention": str, "time": str, "number": float | None, "classes": int, "null": int | None,
           "threshold": list | None, "origin": str, "trained_on": str | None, "measured": bool, "network": dict | None}


def card(model: Adopted) -> dict[str, Any]:
    """What a file must say of an adopted model beside what it says of any."""
    network, entry = model.network, None
    if isinstance(network, Function):
        raise TypeError(f"model is around a {model.origin}, of which no file can hold anything; make it a "
                        "torch.nn.Module and adopt that")
    if isinstance(network, Unet):
        config = {name: value for name, value in network.unet.config.items() if not name.startswith("_")}
        entry = {"name": "UNet2DModel", "options": config}
    elif isinstance(network, OnnxNetwork):
        entry = {"name": "onnx", "options": {"inputs": network.inputs, "output": network.output}}
    return {**model.card(), "network": entry}


def read_card(value: Any) -> dict[str, Any]:
    """A card whose entries are all there and of their types; ValueError for any other."""
    if not isinstance(value, Mapping):
        raise ValueError(f"adopted is {short_repr(value)}; it must be a table of names and values")
    value = {"number": None, **value}  # which the first files did not have
    for name, kind in ENTRIES.items():
        if name not in value or not isinstance(value[name], kind) or isinstance(value[name], bool) != (kind is bool):
            raise ValueError(f"adopted {name} is {short_repr(value.get(name))}; it must be of another type")
    return dict(value)


def rebuilt(value: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network of an adopted model, without the weights; ValueError for one of its user's own, or that cannot be."""
    entry = read_card(value)["network"]
    if entry is None:
        raise ValueError("the model has a network of its user's own; give it: load(path, network=...)")
    options = entry.get("options")
    if not isinstance(options, dict):
        raise ValueError(f"options of the network is {short_repr(options)}; it must be a table")
    if require("network", entry.get("name"), ("UNet2DModel", "onnx")) == "UNet2DModel":
        return Unet(build(checked(options, "the network"), tensors))
    graph = tensors.get(f"{PREFIX}model")
    if graph is None or graph.dtype is not torch.uint8 or graph.ndim != 1:
        raise ValueError("the file holds no graph of ONNX (network.model)")
    if set(options) != {"inputs", "output"} or not isinstance(options["inputs"], dict) or not all(
            isinstance(name, str) for name in (*options["inputs"].values(), options["output"])):
        raise ValueError(f"options of the network is {short_repr(options)}; it must have inputs and output by name")
    return OnnxNetwork(graph, options["inputs"], options["output"])


def made(value: Any, network: nn.Module, schedule: Schedule, shape: list[int], data: DataSpec | None,
         facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Adopted:
    """An adopted model around its network."""
    known = read_card(value)
    threshold, measured = known["threshold"], known["measured"]
    if threshold is not None and len(threshold) != 2:
        raise ValueError(f"adopted threshold is {short_repr(threshold)}; it must be two numbers, or null")
    for name in ("data_mean", "data_std"):
        if measured and list(tensors[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}; it must be {tuple(shape)}")
    return Adopted(network, schedule, shape, known["convention"], time=known["time"],
                   number=known["number"], classes=known["classes"], null=known["null"],
                   x_range=facts["x_range"], threshold=None if threshold is None else (threshold[0], threshold[1]),
                   data=data, origin=known["origin"], trained_on=known["trained_on"],
                   data_mean=tensors["data_mean"] if measured else None,
                   data_std=tensors["data_std"] if measured else None)
