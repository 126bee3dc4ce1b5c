"""UNet2DModel of diffusers as a network, built from an untrusted configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.arguments import require, short_repr

__all__ = ["Unet", "build_unet", "class_options", "diffusers", "sample_shape", "unet_options"]

MAX_SIDE = 4096  # pixels
MAX_ENTRIES = 64  # of a list in a configuration, and layers of a block


class Unet(nn.Module):
    """A UNet2DModel as network(x, time) or network(x, time, condition), without its learned variance."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.unet(x, time, class_labels=condition, return_dict=False)[0][:, :x.shape[1]]


def diffusers() -> Any:
    """Import diffusers; ModuleNotFoundError says how to install it."""
    try:
        import diffusers as package
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('models of diffusers need diffusers: pip install "ornstein[diffusers]"') from error
    return package


def class_options(source: str, kind: type, config: Any) -> dict[str, Any]:
    """All options of a class of diffusers from a configuration.

    ValueError names a key that is unknown, or whose value has another type than the default.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"{source} is {short_repr(config)}; it must be a table of names and values")
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()
                if parameter.default is not inspect.Parameter.empty}
    if "auto_map" in config:
        raise ValueError(f"{source} has an auto_map, which names code of its own; no such code is run")
    for name, value in config.items():
        if name.startswith("_"):  # notes of diffusers
            continue
        require(f"{source} key", name, defaults)
        if not _is_like(value, defaults[name]):
            raise ValueError(f"{source} {name} is {short_repr(value)}; by default it is {short_repr(defaults[name])}, "
                             "and it must be of that type")
    return {**defaults, **{name: value for name, value in config.items() if name in defaults}}


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value has a type that fits a default."""
    if value is None or default is None:
        entries = value if isinstance(value, list | tuple) else [value]
        return all(isinstance(entry, int | float | str | None) for entry in entries)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, tuple | list):
        return isinstance(value, list | tuple) and all(_is_like(entry, default[0]) for entry in value)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default)) or (
        isinstance(default, int) and isinstance(value, float))


def unet_options(config: Any, source: str = "unet/config.json") -> dict[str, Any]:
    """The options of a UNet2DModel from a configuration; ValueError if it cannot be adopted."""
    kind = config.get("_class_name", "UNet2DModel") if isinstance(config, Mapping) else "UNet2DModel"
    if kind == "UNet2DConditionModel":
        raise ValueError(f"{source} is of a UNet2DConditionModel, which is conditioned on text; models with text "
                         "cannot be adopted")
    require(f"{source} _class_name", kind, ["UNet2DModel"])
    options = class_options(source, diffusers().UNet2DModel, config)
    if options["time_embedding_type"] not in ("positional", "fourier"):
        raise ValueError(f"{source} time_embedding_type is {short_repr(options['time_embedding_type'])}; only "
                         "'positional' and 'fourier' support times between the steps")
    if options["class_embed_type"] is not None:
        raise ValueError(f"{source} class_embed_type is {short_repr(options['class_embed_type'])}; only classes by "
                         "index (null) are supported")
    classes = options["num_class_embeds"]
    if classes is not None and (type(classes) is not int or classes < 1):
        raise ValueError(f"{source} num_class_embeds is {short_repr(classes)}; it must be a whole number of at least "
                         "1, or null")
    channels, out = options["in_channels"], options["out_channels"]
    if out not in (channels, 2 * channels):
        raise ValueError(f"{source} has {channels} in_channels and {out} out_channels; both must be equal, or the "
                         "latter twice the former with a learned variance")
    return options


def sample_shape(options: Mapping[str, Any], source: str) -> tuple[int, int, int]:
    """The shape of one sample."""
    size = options["sample_size"]
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(sides) != 2 or any(type(side) is not int or not 1 <= side <= MAX_SIDE for side in sides):
        raise ValueError(f"{source} sample_size is {short_repr(size)}; it must be a number of pixels, or height and "
                         "width: name the shape of a sample with shape=")
    return options["in_channels"], *sides


def build_unet(options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """Build a UNet2DModel without storage, refusing a configuration of more than the weights hold."""
    values = sum(tensor.numel() for tensor in tensors.values())
    for name, entry in options.items():
        entries = entry if isinstance(entry, list | tuple) else [entry]
        limit = min(MAX_ENTRIES, len(tensors)) if name in ("layers_per_block", "downsample_padding") else values
        if len(entries) > MAX_ENTRIES or any(isinstance(number, int | float) and abs(number) > max(limit, 1)
                                             for number in entries):
            raise ValueError(f"the configuration is of another network: {name} is {short_repr(entry)}, and the weights "
                             f"are {len(tensors)} tensors of {values} values")
    try:
        with torch.device("meta"):
            return diffusers().UNet2DModel(**options)
    except Exception as error:  # contradictions among forty options raise many types
        raise ValueError(f"the configuration is of an impossible network: {short_repr(str(error))}") from None
