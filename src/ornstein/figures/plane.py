"""Figures of section 20.3 on points of the plane: density, score field, and paths of the flow and of the SDE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import pure_noise
from ornstein.diffusion.grid import grid
from ornstein.diffusion.likelihood import ode_log_prob
from ornstein.diffusion.samplers import Frame, generate
from ornstein.figures.arrays import COLOURS, canvas, plain, rendered
from ornstein.figures.subject import Subject, scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ODE", "SDE", "background", "class_asked", "density", "field", "flight", "start", "walk"]

ODE, SDE = "heun", "ancestral"  # the probability flow, and the process with noise, that both end as the data
REACH = 2.2  # how far the axes go: data lie in [-1, 1], noise has deviation 1
SIDE = 48  # points a side of the grid of a density
ERROR = 1e-2  # nats that a step of the flow may be off: a hundredth of a shade
CLEAN = 0.04  # time of the density that is shown for the data: points have none, and few samples a rugged one
FRAMES, HOLD, CLOUD = 28, 8, 300


def field(of: Subject) -> Figure:
    """Density of the data, score field at a time between, and paths of the probability-flow ODE and of the SDE."""
    check(of)
    figure = canvas(13, 3.75)
    panels = figure.subplots(1, 4)
    clean = density(of, CLEAN)
    background(panels[0], clean)
    middle = 0.2
    background(panels[1], density(of, middle))
    _arrows(of, panels[1], middle)
    z = start(of, 28)
    # Of paths with noise more than a handful hide one another.
    for axes, rule, count, title in ((panels[2], ODE, 28, "probability-flow ODE"),
                                     (panels[3], SDE, 6, "stochastic equation")):
        background(axes, clean)
        paths = np.stack([shown(of, frame) for frame in walk(of, z[:count], rule, grid(of.denoiser.schedule, 120))])
        for number in range(paths.shape[1]):
            axes.plot(*paths[:, number].T, color=COLOURS[number % len(COLOURS)], lw=0.8, alpha=0.8)
        axes.plot(*paths[0].T, "o", ms=3, mfc="white", mec="#444444", mew=0.7, zorder=5)
        axes.plot(*paths[-1].T, "o", ms=3.5, color="black", zorder=6)
        frame_of(axes, f"paths of the {title}")
    frame_of(panels[0], "density")
    frame_of(panels[1], f"density and score at t = {middle}")
    return figure


def flight(of: Subject) -> list[Image.Image]:
    """Noise becoming data, by the flow on the left and with noise on the right, as frames of 960 x 540 for a slide."""
    check(of)
    z = start(of, CLOUD)
    walks = [walk(of, z, rule, grid(of.denoiser.schedule, FRAMES)) for rule in (ODE, SDE)]
    figure = canvas(9.6, 5.4, apart=False)
    clean = density(of, CLEAN)
    clouds, arrows, heading = [], [], figure.text(0.5, 0.955, "", fontsize=13, ha="center", va="center")
    for number, title in enumerate(("probability-flow ODE", "stochastic equation")):
        axes = figure.add_axes((0.035 + 0.485 * number, 0.03, 0.455, 0.81))
        background(axes, clean)
        arrows.append(_arrows(of, axes, 1.0))
        clouds.append(axes.plot([], [], ".", ms=5, mew=0, color=COLOURS[1 if number else 0], alpha=0.8)[0])
        frame_of(axes, title)
    frames = []
    for moments in zip(*walks, strict=True):
        time = moments[0].time
        for cloud, arrow, moment in zip(clouds, arrows, moments, strict=True):
            cloud.set_data(*shown(of, moment).T)
            arrow.set_UVC(*_score(of, max(time, CLEAN))[1].T)
        heading.set_text(f"from noise to data: t = {time:.2f}")
        frames.append(rendered(figure))
    return frames + [frames[-1]] * HOLD


def walk(of: Subject, z: Tensor, rule: str, times: Tensor | None = None, nfe: int | None = None) -> list[Frame]:
    """Every moment of a way back from z by a sampler, at times or in a number of network calls."""
    return list(generate(of.denoiser, z=z, sampler=rule, times=times, nfe=nfe, seed=of.seed, condition=class_asked(of)))


def start(of: Subject, count: int) -> Tensor:
    """(count, *shape) latents of pure noise."""
    return pure_noise(of.denoiser, of.seed, "start", range(count), of.x)


def shown(of: Subject, frame: Frame) -> np.ndarray:
    """The latents of a frame at the scale of the data."""
    return (frame.latent / scale(of.denoiser.schedule, frame.time)).cpu().numpy()


def class_asked(of: Subject) -> Condition:
    """The one class that was asked for, or none: a figure of all classes is of the model without a condition."""
    if not isinstance(of.condition, Tensor):
        return of.condition
    return int(of.condition[0]) if len(of.condition.unique()) == 1 else None


def density(of: Subject, time: float) -> np.ndarray:
    """(SIDE, SIDE) q(z_t) over the axes, 1 at most; in closed form where there is one, else by the flow."""
    ticks = torch.linspace(-REACH, REACH, SIDE, dtype=torch.float64)
    across, up = torch.meshgrid(ticks, ticks, indexing="xy")
    z = torch.stack([across, up], -1).reshape(-1, 2) * scale(of.denoiser.schedule, time)
    exact: Any = getattr(of.denoiser, "log_prob_at", None)
    if exact is not None:
        log = exact(z, time)
    else:
        log = ode_log_prob(of.denoiser, z.to(of.x), t=time, tolerance=ERROR, condition=class_asked(of))
    return (log - log.max()).exp().reshape(SIDE, SIDE).cpu().numpy()


def background(axes: Any, shades: np.ndarray) -> None:
    """A density behind what follows."""
    ticks = np.linspace(-REACH, REACH, SIDE)
    axes.contourf(ticks, ticks, shades, levels=np.linspace(0.02, 1, 12), cmap="Blues", alpha=0.75)


def frame_of(axes: Any, title: str) -> None:
    """Axes of the plane on which noise and data have room, under a title."""
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=range(-2, 3), yticks=range(-2, 3))
    plain(axes, title)


def check(of: Subject) -> None:
    """Refuse what is not of the plane."""
    if not of.plane:
        raise ValueError(f"this figure is of points of the plane, and samples of this model have shape "
                         f"{tuple(of.denoiser.shape)}; train on moons, mixture, or an array of shape (N, 2)")


def _score(of: Subject, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of a coarse grid, and noise * score there, which has one size at all times: both (n, 2)."""
    ticks = torch.linspace(-1.9, 1.9, 13)
    z = torch.cartesian_prod(ticks, ticks).to(of.x)
    condition = class_asked(of)
    classes = None if condition is None else torch.as_tensor(condition).expand(len(z))
    with torch.no_grad():
        field = -of.denoiser(z * scale(of.denoiser.schedule, time), time, classes).eps
    return z.cpu().numpy(), field.cpu().numpy()


def _arrows(of: Subject, axes: Any, time: float) -> Any:
    where, field = _score(of, time)
    return axes.quiver(*where.T, *field.T, color="#333333", scale=22, width=0.004, zorder=3)
