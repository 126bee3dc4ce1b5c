"""Models and training states on disk: safetensors and JSON, nothing that could run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ornstein import files
from ornstein.arguments import short_repr
from ornstein.description import assemble, describe
from ornstein.diffusion.denoiser import Denoiser, NetworkDenoiser
from ornstein.diffusion.samplers.choice import Choice
from ornstein.diffusion.samplers.loop import SAMPLERS
from ornstein.diffusion.schedule import Schedule
from ornstein.files import MODEL
from ornstein.isolation import isolated

__all__ = ["MODEL", "digest", "fault", "load", "put", "read", "save", "write"]

FORMAT = 1


def write(path: str | Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any], ours: bool = False) -> None:
    """Write tensors and a JSON note into one safetensors file that appears whole or not at all, with its own hash.

    With `ours` only a file that Ornstein wrote may be replaced; OSError where the disk refuses, and all stays as it
    was.
    """
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    facts = {"format": FORMAT, **note}
    with files.replacing(Path(path), ours) as file:
        # One entry: safetensors keeps several in no fixed order, and equal models shall be equal files.
        put(file, whole, {"ornstein": json.dumps({**facts, "sha256": _hash(facts, whole)})})


def put(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; raises OSError, and may then leave a part of it."""
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path, metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        why = int(number[1]) if number else errno.EIO
        raise OSError(why, os.strerror(why) if number else str(error), str(path)) from None


def _hash(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    seen = hashlib.sha256(json.dumps(facts).encode())
    for name in sorted(tensors):
        value = tensors[name]
        seen.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        seen.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return seen.hexdigest()


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the note of a file made by `write`; ValueError if it is damaged in any bit, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; train a model first, or name the folder of a run")
    with open(path, "rb"):  # what the system refuses, such as a file of somebody else's, is not damaged
        pass
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, struct.error, OSError, AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({' '.join(str(error).split())}); "
                         "it is damaged or of another kind, and nothing else is ever loaded") from None
    if "ornstein" not in metadata:
        raise ValueError(f"{path} is a safetensors file, but not one that Ornstein wrote")
    try:
        facts = json.loads(metadata["ornstein"])
        wanted = facts.pop("sha256", None) if isinstance(facts, dict) else None
        whole = wanted == _hash(facts, tensors)
    except (ValueError, RecursionError):  # no JSON, or no text of any use
        facts, whole = {"format": FORMAT}, False
    form = facts.get("format") if isinstance(facts, dict) else None
    if type(form) is not int or form != FORMAT:
        raise ValueError(f"{path} has format {short_repr(form)}; this version of Ornstein reads format {FORMAT}")
    if not whole:
        raise ValueError(f"{path} is damaged: what it holds is not what was written (SHA-256); copy it again, or let "
                         "ornstein train --resume write it anew")
    return tensors, facts


def fault(path: Path) -> str | None:
    """What is wrong with a file made by `write`; None where it is whole."""
    try:
        read(path)
    except FileNotFoundError:
        return f"{path} is gone"
    except (OSError, ValueError) as error:
        return str(error).partition(";")[0]
    return None


def save(model: Denoiser, path: str | Path, tensors: Mapping[str, Tensor] | None = None) -> None:
    """Write a model into one file that `load` needs nothing else for.

    Args:
        model: a `NetworkDenoiser`; a network or schedule that is not Ornstein's own must be given again to `load`.
        path: of the file, or of a folder, which gets a model.safetensors.
        tensors: of the model, where it holds only a part of each; its own by default.

    Raises:
        TypeError: a denoiser of another class.
        OSError: the disk refuses.
    """
    if not isinstance(model, NetworkDenoiser):
        raise TypeError(f"model is a {type(model).__name__}; only a NetworkDenoiser can be saved")
    path = Path(path)
    write(path / MODEL if path.is_dir() else path, tensors or model.state_dict(), describe(model))


@isolated()
def load(path: str | Path, network: nn.Module | None = None, schedule: Schedule | None = None) -> NetworkDenoiser:
    """A model ready to sample, from the folder of a run or from a file that `save` wrote.

    Args:
        path: a folder that holds a model.safetensors, or the file itself.
        network: the network to fill, for a model that was not one of Ornstein's own.
        schedule: the schedule, likewise.

    Returns:
        The denoiser in evaluation mode, with averaged weights, on the CPU.

    Raises:
        OSError: nothing there, or it may not be read.
        ValueError: a file that is damaged, of another format, or that says or holds what no model can be.
    """
    path = Path(path)
    file = path / MODEL if path.is_dir() else path
    tensors, facts = read(file)
    try:
        return model_of(tensors, facts, network, schedule)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def model_of(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], network: nn.Module | None = None,
             schedule: Schedule | None = None) -> NetworkDenoiser:
    """What `load` makes of what `read` gives; raises ValueError as `assemble` does."""
    model, tuned = assemble(tensors, facts, network, schedule).eval(), facts.get("tuned", [])
    if not isinstance(tuned, list):
        raise ValueError(f"tuned is {short_repr(tuned)}; it must be a list of choices")
    choices = [Choice.from_dict(entry, SAMPLERS) for entry in tuned]
    model.tuned = {choice.key: choice for choice in choices}
    return model


def digest(path: str | Path) -> str:
    """SHA-256 (hex) of a model's file: which model drew a picture."""
    path = Path(path)
    with files.open_regular(path / MODEL if path.is_dir() else path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
