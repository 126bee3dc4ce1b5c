"""Samples drawn during a training."""

from __future__ import annotations

from pathlib import Path

from ornstein import files
from ornstein.data import Dataset
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.samplers.loop import NotFinite
from ornstein.figures.pictures import preview
from ornstein.figures.statistics import compare
from ornstein.training.events import Drawn, Warned
from ornstein.workers import torch_threads

__all__ = ["draw_preview"]


def draw_preview(model: NetworkDenoiser, data: Dataset, folder: Path | None, images: int,
                 cores: int | None = None) -> Drawn | Warned:
    """Draw some samples and a comparison of their statistics with the data, as PNG files named by `images`.

    Without a folder nothing is written: the process only takes part in a sharded model. `cores` are torch's threads
    by default.
    """
    name = f"{images:09d}"
    endings = {"samples": ".png", "statistics": "-statistics.png"} if folder else {}
    paths = {kind: Path(folder or "", name + ending) for kind, ending in endings.items()}
    try:
        if folder:
            files.refuse_link(folder)
        for path in paths.values():
            files.check_replaceable(path, ours=True)
        with torch_threads(cores):
            preview(model, paths.get("samples"))
            compare(model, data, paths.get("statistics"))
    except (OSError, NotFinite) as error:
        return Warned(f"no preview {name}: {error}")
    return Drawn(images, {kind: path for kind, path in paths.items() if path.is_file()})
