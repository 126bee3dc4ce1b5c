"""What a source is: folders and objects of diffusers, ONNX files, modules and functions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ornstein import files
from ornstein.adoption.folders import Folder, read_json
from ornstein.adoption.onnx import OnnxNetwork
from ornstein.adoption.schedulers import Scheduled, scheduled
from ornstein.adoption.unet import Unet, build, checked, shape_of
from ornstein.arguments import require, short_repr
from ornstein.diffusion.schedule import SCHEDULES, Chain, Schedule

__all__ = ["Found", "Function", "find_source", "read_schedule"]

ONNX_MOST = 2**31  # bytes of a graph with its weights inside, which no larger file can hold


@dataclass
class Found:
    """What a source says of itself: None where it does not say."""

    network: nn.Module
    origin: str
    shape: tuple[int, ...] | None = None
    classes: int | None = None
    scheduler: Scheduled | None = None


class Function(nn.Module):
    """A function as a network."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        return self.function(*inputs, **named)


def find_source(source: Any, inputs: Mapping[str, str] | None, output: str | None, sized: bool) -> Found:
    """What a source is; `sized` where the caller says the shape of a sample, so that a U-Net need not."""
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; name a folder of diffusers, or an .onnx file")
        if path.suffix.lower() == ".onnx":
            return _graph(path, inputs, output)
        if not path.is_dir():
            raise ValueError(f"{path} is a file that cannot be adopted; name an .onnx file, or a folder of diffusers")
        found = _folder(path, sized)
    else:
        found = _object(source, sized)
    if inputs or output:
        raise ValueError(f"inputs and output are of .onnx files, and {found.origin} is none; leave them out")
    return found


def _folder(path: Path, sized: bool) -> Found:
    folder = Folder(path)
    options = checked(folder.configuration(), f"{folder.unet / 'config.json'}")
    shape = None if sized else shape_of(options, f"{folder.unet / 'config.json'}")
    there = folder.scheduler.exists() or folder.unet != path
    scheduler = scheduled(read_json(folder.scheduler), str(folder.scheduler)) if there else None
    tensors = folder.weights()
    try:
        unet = build(options, tensors)
        unet._fix_state_dict_keys_on_load(tensors)  # of attention before it had its present names
        _fill(unet, tensors)
    except ValueError as error:
        raise ValueError(f"{folder.unet}: {error}") from None
    return Found(Unet(unet), f"UNet2DModel of diffusers in {path.resolve().name}", shape,
                 options["num_class_embeds"] or 0, scheduler)


def _fill(unet: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give a network its weights, after every name and shape has been compared."""
    wanted = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            raise ValueError(f"the weights are of another network: {short_repr(name)} is {there.get(name, 'missing')}, "
                             f"by the configuration it is {wanted.get(name, 'unknown')}")
    unet.load_state_dict(tensors, assign=True)


def _object(source: Any, sized: bool) -> Found:
    """A pipeline or a U-Net of diffusers, or any other module or function."""
    unet, pipeline = getattr(source, "unet", None), type(source).__name__
    if isinstance(unet, nn.Module) and hasattr(source, "scheduler"):
        for part in ("vae", "vqvae", "text_encoder"):
            if getattr(source, part, None) is not None:
                raise ValueError(f"source is a {pipeline} with a {part}; models of text or of latents of an "
                                 "autoencoder cannot be adopted")
        found = _object(unet, sized)
        found.scheduler = scheduled(_configuration(source.scheduler), f"scheduler of {pipeline}")
        return found
    if type(source).__module__.startswith("diffusers.") and isinstance(source, nn.Module):
        what = f"configuration of {pipeline}"
        options = checked({**dict(getattr(source, "config", {})), "_class_name": pipeline}, what)
        half = next(source.parameters()).dtype in (torch.float16, torch.bfloat16)
        return Found(Unet(copy.deepcopy(source).float() if half else source), "UNet2DModel of diffusers",
                     None if sized else shape_of(options, what), options["num_class_embeds"] or 0)
    if not callable(source):
        raise TypeError(f"source is a {pipeline}; it must be the path of a folder or an .onnx file, a pipeline or "
                        "U-Net of diffusers, a module or a function")
    network = source if isinstance(source, nn.Module) else Function(source)
    name = pipeline if isinstance(source, nn.Module) else getattr(source, "__name__", pipeline)
    return Found(network, f"{'module' if isinstance(source, nn.Module) else 'function'} {name}")


def _graph(path: Path, inputs: Mapping[str, str] | None, output: str | None) -> Found:
    with files.open_regular(path) as file:
        content = file.read(ONNX_MOST + 1)
    if not 0 < len(content) <= ONNX_MOST:
        raise ValueError(f"{path} has {len(content):,} bytes; a graph with its weights inside has up to {ONNX_MOST:,}")
    try:
        network = OnnxNetwork(torch.from_numpy(np.frombuffer(content, np.uint8).copy()), inputs, output)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    sides = network.shape
    known = all(isinstance(side, int) for side in sides)
    return Found(network, f"ONNX graph {path.name} ({network.about})", tuple(sides) if known else None)


def read_schedule(value: Any) -> Schedule | Scheduled:
    """A schedule from what a caller gives: one of ours, its name, or a scheduler of diffusers in any form."""
    if isinstance(value, Schedule | Scheduled):
        return value
    if isinstance(value, str | Path) and Path(value).suffix == ".json":
        return scheduled(read_json(Path(value)), str(value))
    if isinstance(value, str):
        kind = SCHEDULES[require("schedule", value, SCHEDULES)]
        return Chain.linear() if kind is Chain else kind()
    if isinstance(value, Mapping) or hasattr(value, "config"):
        return scheduled(value if isinstance(value, Mapping) else _configuration(value), "schedule")
    raise TypeError(f"schedule is a {type(value).__name__}; it must be a Schedule, its name, or a scheduler of "
                    "diffusers, its configuration or the path of that")


def _configuration(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler that is in memory, with the name of its class."""
    return {**dict(getattr(scheduler, "config", {})), "_class_name": type(scheduler).__name__}
