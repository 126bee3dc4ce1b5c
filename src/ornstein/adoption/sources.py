"""Sources of models: folders and objects of diffusers, ONNX files, modules and functions."""

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
from ornstein.adoption.schedulers import Scheduler, read_scheduler
from ornstein.adoption.unet import Unet, build_unet, sample_shape, unet_options
from ornstein.arguments import find, short_repr
from ornstein.diffusion.schedule import SCHEDULES, Chain, Schedule

__all__ = ["Function", "Source", "read_schedule", "read_source"]

MAX_ONNX = 2**31  # bytes of a graph with its weights inside, by the format


@dataclass
class Source:
    """A model of another library; None for what it does not say."""

    network: nn.Module
    origin: str
    shape: tuple[int, ...] | None = None
    classes: int | None = None
    scheduler: Scheduler | None = None


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor, **keywords: Tensor) -> Tensor:
        return self.function(*inputs, **keywords)


def read_source(source: Any, inputs: Mapping[str, str] | None, output: str | None, has_shape: bool) -> Source:
    """Read a source; with `has_shape` the caller gives the shape of a sample, so that a U-Net need not have one."""
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; name a folder of diffusers, or an .onnx file")
        if path.suffix.lower() == ".onnx":
            return _read_graph(path, inputs, output)
        if not path.is_dir():
            raise ValueError(f"{path} is a file that cannot be adopted; name an .onnx file, or a folder of diffusers")
        opened = _read_folder(path, has_shape)
    else:
        opened = _read_object(source, has_shape)
    if inputs or output:
        raise ValueError(f"inputs and output are for .onnx files, which {opened.origin} is not; leave them out")
    return opened


def _read_folder(path: Path, has_shape: bool) -> Source:
    folder = Folder(path)
    config = f"{folder.unet / 'config.json'}"
    options = unet_options(folder.configuration(), config)
    shape = None if has_shape else sample_shape(options, config)
    has_scheduler = folder.scheduler.exists() or folder.unet != path
    scheduler = read_scheduler(read_json(folder.scheduler), str(folder.scheduler)) if has_scheduler else None
    tensors = folder.weights()
    try:
        unet = build_unet(options, tensors)
        unet._fix_state_dict_keys_on_load(tensors)  # older names of attention
        _load_weights(unet, tensors)
    except ValueError as error:
        raise ValueError(f"{folder.unet}: {error}") from None
    return Source(Unet(unet), f"UNet2DModel of diffusers in {path.resolve().name}", shape,
                  options["num_class_embeds"] or 0, scheduler)


def _load_weights(unet: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load weights after comparing every name and shape."""
    expected = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    actual = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            raise ValueError(f"the weights are of another network: {short_repr(name)} is "
                             f"{actual.get(name, 'missing')}, by the configuration it is "
                             f"{expected.get(name, 'unknown')}")
    unet.load_state_dict(tensors, assign=True)


def _read_object(source: Any, has_shape: bool) -> Source:
    """Read a pipeline or a U-Net of diffusers, or any other module or function."""
    unet, class_name = getattr(source, "unet", None), type(source).__name__
    if isinstance(unet, nn.Module) and hasattr(source, "scheduler"):
        for part in ("vae", "vqvae", "text_encoder"):
            if getattr(source, part, None) is not None:
                raise ValueError(f"source is a {class_name} with a {part}; models of text or of latents of an "
                                 "autoencoder cannot be adopted")
        opened = _read_object(unet, has_shape)
        opened.scheduler = read_scheduler(_configuration(source.scheduler), f"scheduler of {class_name}")
        return opened
    if type(source).__module__.startswith("diffusers.") and isinstance(source, nn.Module):
        config = f"configuration of {class_name}"
        options = unet_options({**dict(getattr(source, "config", {})), "_class_name": class_name}, config)
        is_half = next(source.parameters()).dtype in (torch.float16, torch.bfloat16)
        return Source(Unet(copy.deepcopy(source).float() if is_half else source), "UNet2DModel of diffusers",
                      None if has_shape else sample_shape(options, config), options["num_class_embeds"] or 0)
    if not callable(source):
        raise TypeError(f"source is a {class_name}; it must be the path of a folder or an .onnx file, a pipeline or "
                        "U-Net of diffusers, a module or a function")
    network = source if isinstance(source, nn.Module) else Function(source)
    name = class_name if isinstance(source, nn.Module) else getattr(source, "__name__", class_name)
    return Source(network, f"{'module' if isinstance(source, nn.Module) else 'function'} {name}")


def _read_graph(path: Path, inputs: Mapping[str, str] | None, output: str | None) -> Source:
    with files.open_regular(path) as file:
        content = file.read(MAX_ONNX + 1)
    if not 0 < len(content) <= MAX_ONNX:
        raise ValueError(f"{path} has {len(content):,} bytes; a graph with its weights inside has at most {MAX_ONNX:,}")
    try:
        network = OnnxNetwork(torch.from_numpy(np.frombuffer(content, np.uint8).copy()), inputs, output)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    is_fixed = all(isinstance(side, int) for side in network.shape)
    return Source(network, f"ONNX graph {path.name} ({network.summary})", tuple(network.shape) if is_fixed else None)


def read_schedule(value: Any) -> Schedule | Scheduler:
    """Read a schedule: one of ours, its name, or a scheduler of diffusers in any form."""
    if isinstance(value, Schedule | Scheduler):
        return value
    if isinstance(value, str | Path) and Path(value).suffix == ".json":
        return read_scheduler(read_json(Path(value)), str(value))
    if isinstance(value, str):
        schedule_class = find("schedule", value, SCHEDULES)
        return Chain.linear() if schedule_class is Chain else schedule_class()
    if isinstance(value, Mapping) or hasattr(value, "config"):
        return read_scheduler(value if isinstance(value, Mapping) else _configuration(value), "schedule")
    raise TypeError(f"schedule is a {type(value).__name__}; it must be a Schedule, its name, or a scheduler of "
                    "diffusers, its configuration or the path of that")


def _configuration(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler object, with the name of its class."""
    return {**dict(getattr(scheduler, "config", {})), "_class_name": type(scheduler).__name__}
