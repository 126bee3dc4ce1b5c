"""Models and training states on disk: safetensors and JSON, without any code."""

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

__all__ = ["MODEL", "digest", "find_damage", "load", "read", "save", "write", "write_tensors"]

FORMAT = 1


def write(path: str | Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any], ours: bool = False) -> None:
    """Write tensors, a JSON note and their hash into one safetensors file, atomically.

    With `ours` only a file that Ornstein wrote is replaced. Raises OSError if the disk refuses; `path` then stays as it
    was.
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    facts = {"format": FORMAT, **note}
    with files.replacing(Path(path), ours) as file:
        # A single entry, as safetensors orders several at random, and equal models shall give equal files.
        write_tensors(file, contiguous, {"ornstein": json.dumps({**facts, "sha256": _hash(facts, contiguous)})})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; OSError may leave a part of it."""
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path, metadata)
    except SafetensorError as error:
        match = re.search(r"os error (\d+)", str(error))
        code = int(match[1]) if match else errno.EIO
        raise OSError(code, os.strerror(code) if match else str(error), str(path)) from None


def _hash(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the note of a file from `write`; ValueError if any bit is damaged, or for other files."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; train a model first, or name the folder of a run")
    with open(path, "rb"):  # a file that may not be read is not damaged
        pass
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, struct.error, OSError, AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} is not a complete safetensors file ({' '.join(str(error).split())}); "
                         "it is damaged or of another kind, and nothing else is ever loaded") from None
    if "ornstein" not in metadata:
        raise ValueError(f"{path} is a safetensors file, but not one that Ornstein wrote")
    try:
        facts = json.loads(metadata["ornstein"])
        expected = facts.pop("sha256", None) if isinstance(facts, dict) else None
        is_intact = expected == _hash(facts, tensors)
    except (ValueError, RecursionError):  # not JSON, or text that cannot be encoded
        facts, is_intact = {"format": FORMAT}, False
    file_format = facts.get("format") if isinstance(facts, dict) else None
    if type(file_format) is not int or file_format != FORMAT:
        raise ValueError(f"{path} has format {short_repr(file_format)}; this version of Ornstein reads format {FORMAT}")
    if not is_intact:
        raise ValueError(f"{path} is damaged: its content is not what was written (SHA-256); copy it again, or let "
                         "ornstein train --resume write it anew")
    return tensors, facts


def find_damage(path: Path) -> str | None:
    """What is wrong with a file from `write`; None if it is intact."""
    try:
        read(path)
    except FileNotFoundError:
        return f"{path} is gone"
    except (OSError, ValueError) as error:
        return str(error).partition(";")[0]
    return None


def save(model: Denoiser, path: str | Path, tensors: Mapping[str, Tensor] | None = None) -> None:
    """Write a model into one file, which is all that `load` needs.

    Args:
        model: a `NetworkDenoiser`; a network or schedule that is not Ornstein's own must be passed to `load` again.
        path: of the file, or of a folder, in which it is model.safetensors.
        tensors: of the model, if it holds only a shard of each; its own by default.

    Raises:
        TypeError: a denoiser of another class.
        OSError: the file cannot be written.
    """
    if not isinstance(model, NetworkDenoiser):
        raise TypeError(f"model is a {type(model).__name__}; only a NetworkDenoiser can be saved")
    path = Path(path)
    write(path / MODEL if path.is_dir() else path, tensors or model.state_dict(), describe(model))


@isolated()
def load(path: str | Path, network: nn.Module | None = None, schedule: Schedule | None = None) -> NetworkDenoiser:
    """Load a model ready to sample, from the folder of a run or from a file of `save`.

    Args:
        path: a folder that holds a model.safetensors, or the file itself.
        network: the network to load the weights into, if it is not one of Ornstein's own.
        schedule: the schedule, if it is not one of Ornstein's own.

    Returns:
        The denoiser in evaluation mode, with averaged weights, on the CPU.

    Raises:
        OSError: the file does not exist, or may not be read.
        ValueError: a file that is damaged, of another format, or that does not describe a possible model.
    """
    path = Path(path)
    file = path / MODEL if path.is_dir() else path
    tensors, facts = read(file)
    try:
        return build_model(tensors, facts, network, schedule)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def build_model(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], network: nn.Module | None = None,
                schedule: Schedule | None = None) -> NetworkDenoiser:
    """Build the model from the tensors and the note of `read`; ValueError as `assemble`."""
    model = assemble(tensors, facts, network, schedule).eval()
    tuned = facts.get("tuned", [])
    if not isinstance(tuned, list):
        raise ValueError(f"tuned is {short_repr(tuned)}; it must be a list of choices")
    choices = [Choice.from_dict(entry, SAMPLERS) for entry in tuned]
    model.tuned = {choice.key: choice for choice in choices}
    return model


def digest(path: str | Path) -> str:
    """SHA-256 (hex) of a model's file, which tells which model drew a picture."""
    path = Path(path)
    with files.open_regular(path / MODEL if path.is_dir() else path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
