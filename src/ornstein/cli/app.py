"""The program, and the words that several of its commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ornstein import __version__

__all__ = ["Data", "Run", "Sampler", "Seed", "app"]

app = App(
    name="ornstein", version=__version__, version_flags=["--version"],
    help="Train a diffusion model on your own pictures, draw new ones in few network calls, and see every step.",
)
Data = Annotated[str | None, Parameter(
    help="digits, moons, mixture; a folder of pictures; .npy, .npz, .parquet or .tar files; or hf:NAME.")]
Run = Annotated[Path, Parameter(help="Folder of a run, or a model.safetensors file.")]
Seed = Annotated[int, Parameter(help="Of all randomness, from 0 to 2^64 - 1.")]
Sampler = Annotated[str, Parameter(help="A name of `ornstein list samplers`, or path.py:Class for a rule of your own.")]
