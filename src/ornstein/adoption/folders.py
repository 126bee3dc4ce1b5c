"""Folders of diffusers: JSON and weights, of which nothing is run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ornstein import files
from ornstein.arguments import short_repr

__all__ = ["Folder", "read_json", "read_weights"]

SMALL = 4_000_000  # bytes of a configuration, at most
INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model"


class Folder:
    """A pipeline's folder, or that of a U-Net alone; ValueError for what cannot be adopted, before weights are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._refuse_code()
        if (path / INDEX).exists():
            self._refuse_others(read_json(path / INDEX))
            self.unet = path / "unet"
            self.scheduler = path / "scheduler" / SCHEDULER
        else:
            self.unet, self.scheduler = path, path / SCHEDULER
            if not (path / CONFIG).exists():
                raise ValueError(f"{path} has neither {INDEX} nor {CONFIG}; name a folder of diffusers, or that of its "
                                 "unet")

    def _refuse_code(self) -> None:
        for folder in (self.path, *(self.path / name for name in ("unet", "scheduler"))):
            if code := next((one for one in files.list_folder(folder) if one.suffix in (".py", ".pyc", ".so")), None):
                raise ValueError(f"{code} is code, and a model with code of its own cannot be adopted; nothing was run")

    def _refuse_others(self, index: Mapping[str, Any]) -> None:
        """Refuse a pipeline that has more than a network and a scheduler of diffusers itself."""
        name = index.get("_class_name")
        if not isinstance(name, str):
            raise ValueError(f"{self.path / INDEX} _class_name is {short_repr(name)}, which names code of its own; "
                             "none is ever run")
        for part, value in index.items():
            if part.startswith("_") or value is None or value == [None, None]:
                continue
            if part in ("vae", "vqvae", "movq"):
                raise ValueError(f"{self.path} is a {name}, whose samples are latents of an autoencoder ({part}); "
                                 "such models cannot be adopted")
            if part in ("text_encoder", "tokenizer", "prompt_encoder", "image_encoder", "bert"):
                raise ValueError(f"{self.path} is a {name}, which is conditioned on text ({part}); such models "
                                 "cannot be adopted")
            if part not in ("unet", "scheduler"):
                raise ValueError(f"{self.path / INDEX} has the part {short_repr(part)}; only unet and scheduler can be "
                                 "adopted")
            if not (isinstance(value, list) and len(value) == 2 and value[0] == "diffusers"):
                raise ValueError(f"{self.path / INDEX} {part} is {short_repr(value)}, which is not of diffusers "
                                 "itself; code of its own is never run")

    def configuration(self) -> dict[str, Any]:
        """Of the U-Net."""
        return read_json(self.unet / CONFIG)

    def weights(self) -> dict[str, Tensor]:
        """Of the U-Net, as they are in the file."""
        for name in (f"{WEIGHTS}.safetensors", f"{WEIGHTS}.bin"):
            if (self.unet / name).exists():
                return read_weights(self.unet / name)
        if (index := self.unet / f"{WEIGHTS}.safetensors.index.json").exists():
            return _parts(index)
        there = [one.name for one in files.list_folder(self.unet) if one.suffix in (".safetensors", ".bin")]
        raise FileNotFoundError(f"{self.unet / WEIGHTS}.safetensors does not exist" + (
            f"; rename {there[0]} if these are the weights" if there else ", nor does a .bin file"))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a configuration; FileNotFoundError or ValueError with its path."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; the folder is not whole")
    return files.read_json(path, SMALL)


def _parts(index: Path) -> dict[str, Tensor]:
    """The tensors that an index says are in several files beside it."""
    places, found = read_json(index).get("weight_map"), dict[str, Tensor]()
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise ValueError(f"{index} weight_map is {short_repr(places)}; it must be a table of names and files")
    for place in sorted(set(places.values())):
        if Path(place).name != place or Path(place).suffix != ".safetensors":
            raise ValueError(f"{index} names the file {short_repr(place)}; only .safetensors files beside it are read")
        if not (index.parent / place).exists():
            raise FileNotFoundError(f"{index.parent / place} does not exist; the weights are not whole")
        part = read_weights(index.parent / place)
        if strange := next((name for name in part if places.get(name) != place), None):
            raise ValueError(f"{index.parent / place} holds {short_repr(strange)}, which {index.name} has in "
                             f"{short_repr(places.get(strange, 'no file'))}; the weights are of another index")
        found |= part
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a .bin file that holds nothing else, as float32."""
    with files.open_regular(path) as file:
        try:
            if path.suffix == ".safetensors":
                found = load_file(path)
            else:
                # Nothing that such a file names is run: what is more than tensors is refused.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of a pickle that is refused in a moment
                    found = torch.load(file, map_location="cpu", weights_only=True)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a whole safetensors file ({short_repr(str(error))})") from None
        except Exception as error:  # a damaged archive raises a dozen types
            raise ValueError(f"{path} is damaged or holds more than tensors, and was not read "
                             f"({type(error).__name__}); save it as safetensors") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) and isinstance(value, Tensor)
                                              for name, value in found.items()):
        raise ValueError(f"{path} holds more than tensors by name; save the model with save_pretrained")
    for name, value in found.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{path}: {short_repr(name)} holds values that are not finite; the model is broken")
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
