"""The figures of the chapter by name, drawn for a user's model and picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ornstein import files
from ornstein.arguments import find
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.figures.backward import bound, reverse
from ornstein.figures.forward import graph, kernel, noising, posterior, schedules
from ornstein.figures.guided import guidance
from ornstein.figures.paths import paths
from ornstein.figures.plane import field, flight
from ornstein.figures.strip import strip
from ornstein.figures.subject import Subject, make_subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "draw", "write"]

FIGURES: dict[str, Callable[[Subject], Figure]] = {
    "bound": bound,
    "chain": strip,
    "field": field,
    "graph": graph,
    "guidance": guidance,
    "kernel": kernel,
    "noising": noising,
    "posterior": posterior,
    "reverse": reverse,
    "samplers": paths,
    "schedules": schedules,
}
MOVING = (".gif", ".webp")
FRAME = 80  # milliseconds


def draw(model: NetworkDenoiser, out: Path, image: Path | None = None, label: str | None = None, seed: int = 0,
         figure: str = "auto") -> None:
    """Draw a figure of a model into a file, about a user's picture or about a sample that the model draws.

    "auto" is "field" for points of the plane and "chain" otherwise; a .gif or .webp file is an animated "field".
    """
    write(make_subject(model, image, label, seed), out, figure)


def write(subject: Subject, out: Path, figure: str = "auto") -> None:
    """Draw a figure of any denoiser and samples; arguments and errors as for `draw`."""
    name = figure if figure != "auto" else "field" if subject.plane else "chain"
    figure_of = find("figure", name, FIGURES)
    kind = out.suffix.lower()
    if kind not in (".png", *MOVING):
        raise ValueError(f"out is {out}; it must end in .png, or in .gif or .webp for an animated figure")
    if kind in MOVING:
        if name != "field":
            raise ValueError(f"out is {out}, but figure {name!r} is not animated; name a .png file, or choose figure "
                             "'field'")
        frames = flight(subject)
        if kind == ".gif":
            from PIL import Image

            # One palette for all frames, so that still parts do not flicker.
            palette = frames[len(frames) // 2].quantize(24)
            frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        with files.replacing(out) as file:
            frames[0].save(file, save_all=True, append_images=frames[1:], duration=FRAME, loop=0, quality=60, method=4)
        return
    drawn = figure_of(subject)
    with files.replacing(out) as file:
        drawn.savefig(file, dpi=110, metadata={"Software": "ornstein trace"})
