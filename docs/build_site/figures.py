"""Draw every picture of the chapter, and the logo: `python docs/build_site/figures.py [FOLDER]`.

The denoisers are in closed form, so nothing is trained and a picture is the same every time. `ornstein trace` draws the
same figures for a model of the user's own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure

import ornstein as orn
from ornstein.figures.paths import paths
from ornstein.figures.subject import Subject
from ornstein.figures.trace import FIGURES

HERE = Path(__file__).parents[1] / "chapter" / "pictures"
STATIC = Path(__file__).parents[1] / "_static"
DIGIT = 3  # the row of the digits that the pages follow


def digit() -> Subject:
    """A digit, and the best denoiser of all of them, on the chain of the chapter."""
    data = orn.load_data("digits")
    points, labels = data.batch(range(len(data)))
    return Subject(orn.ExactDataset(points, orn.Chain.linear(), labels), points[DIGIT:DIGIT + 1].double(), "a digit",
                   data.spec)


def three() -> Subject:
    """Three overlapping Gaussians, conditioned on the first."""
    law = orn.ExactMixture(torch.ones(3), torch.tensor([[-0.6, -0.3], [0.6, -0.3], [0.0, 0.6]]), torch.full((3,), 0.1),
                           orn.Chain.linear())
    return Subject(law, law.draw(600), "three Gaussians", condition=0)


def ring(schedule: orn.Schedule) -> Subject:
    """600 points from eight Gaussians on a circle, whose denoiser and density are known."""
    angle = torch.arange(8) * (math.pi / 4)
    law = orn.ExactMixture(torch.ones(8), torch.stack([angle.cos(), angle.sin()], 1), torch.full((8,), 0.1**2),
                           schedule)
    return Subject(law, law.draw(600), "eight Gaussians")


def five_samplers(subject: Subject) -> Figure:
    """Five samplers of different kinds; `ornstein trace` draws all."""
    return paths(subject, ("ancestral-beta", "ancestral", "ddim", "heun", "dpm++"))


PICTURES: dict[str, tuple[Callable[[Subject], Figure], Callable[[], Subject]]] = {
    "bound": (FIGURES["bound"], lambda: ring(orn.Chain.linear())),
    "field": (FIGURES["field"], lambda: ring(orn.Cosine())),
    "graph": (FIGURES["graph"], digit),
    "guidance": (FIGURES["guidance"], three),
    "kernel": (FIGURES["kernel"], digit),
    "noising": (FIGURES["noising"], digit),
    "posterior": (FIGURES["posterior"], digit),
    "reverse": (FIGURES["reverse"], digit),
    "samplers": (five_samplers, lambda: ring(orn.Cosine())),
    "schedules": (FIGURES["schedules"], digit),
}


def main(folder: Path = HERE) -> None:
    """Draw all pictures into a folder, as PNG files named after the entries of `PICTURES`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (figure, subject) in PICTURES.items():
        figure(subject()).savefig(folder / f"{name}.png", dpi=110, metadata={"Software": "ornstein trace"})


LOGO = {"light": ("#26466b", "#3f8f9b"), "dark": ("#8fb4e3", "#7fd1c9")}  # colours of the noise and of the ring


def logo(folder: Path = STATIC) -> None:
    """Draw the logo as SVG, for light and dark pages: noise that the probability flow takes to a ring, the letter O."""
    count, around = 44, torch.arange(44, dtype=torch.float64) * (2 * math.pi / 44)
    law = orn.ExactMixture(torch.ones(count), 1.05 * torch.stack([around.cos(), around.sin()], 1),
                           torch.full((count,), 0.02**2), orn.Cosine())
    # Quantiles of the radius of a 2-D normal, in an order that puts small ones beside large ones.
    radius = (-2 * torch.log1p(-(torch.arange(count) * 17 % count + 0.5) / count)).sqrt().clamp(max=1.95)
    start = radius[:, None] * torch.stack([around.cos(), around.sin()], 1)
    frames = orn.generate(law, z=start, sampler="heun", nfe=96)
    path = torch.stack([frame.latent for frame in frames])[::4].permute(1, 0, 2)
    lines = "".join(f'<path d="M{" L".join(f"{x:.2f} {-y:.2f}" for x, y in points.tolist())}"/>' for points in path)
    dots = "".join(f'<circle cx="{x:.2f}" cy="{-y:.2f}" r=".13"/>' for x, y in path[:, -1].tolist())
    for name, (noise, ring) in LOGO.items():
        (folder / f"logo-{name}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 4 4" role="img" aria-label="Ornstein">'
            f'<g fill="none" stroke="{noise}" stroke-width=".055" stroke-linecap="round" opacity=".75">{lines}</g>'
            f'<g fill="{ring}">{dots}</g></svg>\n', "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
    logo(*map(Path, sys.argv[1:2]))
