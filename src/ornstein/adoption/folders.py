"""Folders of diffusers: JSON and weights; no code is run."""

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

MAX_CONFIG = 4_000_000  # bytes
INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model"


class Folder:
    """A folder of a pipeline or a U-Net; ValueError for what cannot be adopted, before weights are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._refuse_code()
        if (path / INDEX).exists():
            self._check_pipeline(read_json(path / INDEX))
            self.unet = path / "unet"
            self.scheduler = path / "scheduler" / SCHEDULER
        else:
            self.unet, self.scheduler = path, path / SCHEDULER
            if not (path / CONFIG).exists():
                raise ValueError(f"{path} has neither {INDEX} nor {CONFIG}; name a folder of diffusers, or that of its "
                                 "unet")

    def _refuse_code(self) -> None:
        for folder in (self.path, *(self.path / name for name in ("unet", "scheduler"))):
            if code := next((path for path in files.list_folder(folder)
                             if path.suffix in (".py", ".pyc", ".so")), None):
                raise ValueError(f"{code} is code, and a model with code of its own cannot be adopted; nothing was run")

    def _check_pipeline(self, index: Mapping[str, Any]) -> None:
        """Refuse a pipeline of more than a network and a scheduler of diffusers."""
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
        """Read the configuration of the U-Net."""
        return read_json(self.unet / CONFIG)

    def weights(self) -> dict[str, Tensor]:
        """Read the weights of the U-Net."""
        for name in (f"{WEIGHTS}.safetensors", f"{WEIGHTS}.bin"):
            if (self.unet / name).exists():
                return read_weights(self.unet / name)
        if (index := self.unet / f"{WEIGHTS}.safetensors.index.json").exists():
            return _read_shards(index)
        others = [path.name for path in files.list_folder(self.unet) if path.suffix in (".safetensors", ".bin")]
        raise FileNotFoundError(f"{self.unet / WEIGHTS}.safetensors does not exist" + (
            f"; rename {others[0]} if these are the weights" if others else ", nor does a .bin file"))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a configuration; FileNotFoundError or ValueError names its path."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; the folder is incomplete")
    return files.read_json(path, MAX_CONFIG)


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Read the tensors of the files that an index lists."""
    file_of, tensors = read_json(index).get("weight_map"), dict[str, Tensor]()
    if not isinstance(file_of, dict) or not all(isinstance(file, str) for file in file_of.values()):
        raise ValueError(f"{index} weight_map is {short_repr(file_of)}; it must be a table of names and files")
    for file in sorted(set(file_of.values())):
        if Path(file).name != file or Path(file).suffix != ".safetensors":
            raise ValueError(f"{index} names the file {short_repr(file)}; only .safetensors files beside it are read")
        if not (index.parent / file).exists():
            raise FileNotFoundError(f"{index.parent / file} does not exist; the weights are incomplete")
        shard = read_weights(index.parent / file)
        if wrong := next((name for name in shard if file_of.get(name) != file), None):
            raise ValueError(f"{index.parent / file} holds {short_repr(wrong)}, which {index.name} has in "
                             f"{short_repr(file_of.get(wrong, 'no file'))}; the weights are of another index")
        tensors |= shard
    return tensors


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file, or a .bin file of nothing else, as float32."""
    with files.open_regular(path) as file:
        try:
            if path.suffix == ".safetensors":
                tensors = load_file(path)
            else:
                # weights_only refuses everything but tensors, and runs nothing.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about pickles, which are refused
                    tensors = torch.load(file, map_location="cpu", weights_only=True)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a complete safetensors file ({short_repr(str(error))})") from None
        except Exception as error:  # a damaged archive raises a dozen types
            raise ValueError(f"{path} is damaged or holds more than tensors, and was not read "
                             f"({type(error).__name__}); save it as safetensors") from None
    if not isinstance(tensors, dict) or not all(isinstance(name, str) and isinstance(value, Tensor)
                                                for name, value in tensors.items()):
        raise ValueError(f"{path} holds more than tensors by name; save the model with save_pretrained")
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{path}: {short_repr(name)} holds values that are not finite; the model is broken")
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
