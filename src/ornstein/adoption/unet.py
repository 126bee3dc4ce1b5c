"""UNet2DModel of diffusers as a network, built from a configuration that may say anything."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.arguments import require, short_repr

__all__ = ["Unet", "build", "checked", "configured", "diffusers", "shape_of"]

MOST_SIDE = 4096  # pixels
MOST_ENTRIES = 64  # of a list in a configuration, and layers a block


class Unet(nn.Module):
    """A UNet2DModel that answers as network(x, time) or network(x, time, condition), its learned variance left out."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.unet(x, time, class_labels=condition, return_dict=False)[0][:, :x.shape[1]]


def diffusers() -> Any:
    """The package; ModuleNotFoundError says how it is had."""
    try:
        import diffusers as package
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('models of diffusers need diffusers: pip install "ornstein[diffusers]"') from error
    return package


def configured(what: str, kind: type, config: Any) -> dict[str, Any]:
    """Every option of a class of diffusers, from a configuration without unknown keys or values of another type than
    the default's; ValueError names the key."""
    if not isinstance(config, Mapping):
        raise ValueError(f"{what} is {short_repr(config)}; it must be a table of names and values")
    known = {name: entry.default for name, entry in inspect.signature(kind).parameters.items()
             if entry.default is not inspect.Parameter.empty}
    if "auto_map" in config:
        raise ValueError(f"{what} has an auto_map, which names code of its own; none is ever run")
    for name, value in config.items():
        if name.startswith("_"):  # what diffusers notes for itself
            continue
        require(f"{what} key", name, known)
        if not _fits(value, known[name]):
            raise ValueError(f"{what} {name} is {short_repr(value)}; by default it is {short_repr(known[name])}, and "
                             "it must be of that type")
    return {**known, **{name: value for name, value in config.items() if name in known}}


def _fits(value: Any, default: Any) -> bool:
    """Whether a value may stand in the place of a default."""
    if value is None or default is None:
        entries = value if isinstance(value, list | tuple) else [value]
        return all(isinstance(one, int | float | str | None) for one in entries)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, tuple | list):
        return isinstance(value, list | tuple) and all(_fits(one, default[0]) for one in value)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default)) or (
        isinstance(default, int) and isinstance(value, float))


def checked(config: Any, what: str = "unet/config.json") -> dict[str, Any]:
    """The options of a UNet2DModel that can be adopted."""
    kind = config.get("_class_name", "UNet2DModel") if isinstance(config, Mapping) else "UNet2DModel"
    if kind == "UNet2DConditionModel":
        raise ValueError(f"{what} is of a UNet2DConditionModel, which is told a text at every call; models with text "
                         "cannot be adopted")
    require(f"{what} _class_name", kind, ["UNet2DModel"])
    options = configured(what, diffusers().UNet2DModel, config)
    if options["time_embedding_type"] not in ("positional", "fourier"):
        raise ValueError(f"{what} time_embedding_type is {short_repr(options['time_embedding_type'])}; only "
                         "'positional' and 'fourier' know times between the steps")
    if options["class_embed_type"] is not None:
        raise ValueError(f"{what} class_embed_type is {short_repr(options['class_embed_type'])}; only classes by "
                         "number (null) can be told")
    classes = options["num_class_embeds"]
    if classes is not None and (type(classes) is not int or classes < 1):
        raise ValueError(f"{what} num_class_embeds is {short_repr(classes)}; it must be a whole number of at least 1, "
                         "or null")
    channels, out = options["in_channels"], options["out_channels"]
    if out not in (channels, 2 * channels):
        raise ValueError(f"{what} has {channels} in_channels and {out} out_channels; it must have as many, or twice as "
                         "many with a learned variance")
    return options


def shape_of(options: Mapping[str, Any], what: str) -> tuple[int, int, int]:
    """The shape of one sample."""
    size = options["sample_size"]
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(sides) != 2 or any(type(side) is not int or not 1 <= side <= MOST_SIDE for side in sides):
        raise ValueError(f"{what} sample_size is {short_repr(size)}; it must be a number of pixels, or height and "
                         "width: name the shape of a sample with shape=")
    return options["in_channels"], *sides


def build(options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """A UNet2DModel without storage: a configuration cannot make us allocate or do more than its weights hold."""
    values = sum(tensor.numel() for tensor in tensors.values())
    for name, entry in options.items():
        entries = entry if isinstance(entry, list | tuple) else [entry]
        limit = min(MOST_ENTRIES, len(tensors)) if name in ("layers_per_block", "downsample_padding") else values
        if len(entries) > MOST_ENTRIES or any(isinstance(one, int | float) and abs(one) > max(limit, 1)
                                              for one in entries):
            raise ValueError(f"the configuration is of another network: {name} is {short_repr(entry)}, and the weights "
                             f"are {len(tensors)} tensors of {values} values")
    try:
        with torch.device("meta"):
            return diffusers().UNet2DModel(**options)
    except Exception as error:  # whatever a contradiction among forty options may raise
        raise ValueError(f"the configuration is of a network that cannot be: {short_repr(str(error))}") from None
