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
from ornstein.figures.arrays import COLOURS, new_figure, render, style_axes
from ornstein.figures.subject import Subject, display_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CLEAN", "ODE", "SDE", "density", "draw_background", "field", "flight", "frame_axes", "points",
           "start_noise", "walk"]

ODE, SDE = "heun", "ancestral"  # the probability flow and the stochastic process
REACH = 2.2  # of the axes: data lie in [-1, 1], noise has standard deviation 1
SIDE = 48  # of the grid of a density, in points
ERROR = 1e-2  # tolerance of the flow in nats: a hundredth of a shade
CLEAN = 0.04  # time of the density shown for the data: points have none, and that of few samples is rugged
FRAMES, HOLD, CLOUD = 28, 8, 300


def field(subject: Subject) -> Figure:
    """Density of the data, score field at an intermediate time, paths of the probability-flow ODE and of the SDE."""
    check_plane(subject)
    figure = new_figure(13, 3.75)
    panels = figure.subplots(1, 4)
    clean = density(subject, CLEAN)
    draw_background(panels[0], clean)
    middle = 0.2
    draw_background(panels[1], density(subject, middle))
    _arrows(subject, panels[1], middle)
    z = start_noise(subject, 28)
    # More than a handful of stochastic paths would hide one another.
    for axes, rule, count, title in ((panels[2], ODE, 28, "probability-flow ODE"),
                                     (panels[3], SDE, 6, "stochastic equation")):
        draw_background(axes, clean)
        frames = walk(subject, z[:count], rule, grid(subject.denoiser.schedule, 120))
        paths = np.stack([points(subject, frame) for frame in frames])
        for number in range(paths.shape[1]):
            axes.plot(*paths[:, number].T, color=COLOURS[number % len(COLOURS)], lw=0.8, alpha=0.8)
        axes.plot(*paths[0].T, "o", ms=3, mfc="white", mec="#444444", mew=0.7, zorder=5)
        axes.plot(*paths[-1].T, "o", ms=3.5, color="black", zorder=6)
        frame_axes(axes, f"paths of the {title}")
    frame_axes(panels[0], "density")
    frame_axes(panels[1], f"density and score at t = {middle}")
    return figure


def flight(subject: Subject) -> list[Image.Image]:
    """Noise turning into data, by the flow on the left and the SDE on the right, as frames of 960 x 540 for a slide."""
    check_plane(subject)
    z = start_noise(subject, CLOUD)
    walks = [walk(subject, z, rule, grid(subject.denoiser.schedule, FRAMES)) for rule in (ODE, SDE)]
    figure = new_figure(9.6, 5.4, automatic=False)
    clean = density(subject, CLEAN)
    clouds, arrows, heading = [], [], figure.text(0.5, 0.955, "", fontsize=13, ha="center", va="center")
    for number, title in enumerate(("probability-flow ODE", "stochastic equation")):
        axes = figure.add_axes((0.035 + 0.485 * number, 0.03, 0.455, 0.81))
        draw_background(axes, clean)
        arrows.append(_arrows(subject, axes, 1.0))
        clouds.append(axes.plot([], [], ".", ms=5, mew=0, color=COLOURS[1 if number else 0], alpha=0.8)[0])
        frame_axes(axes, title)
    frames = []
    for moments in zip(*walks, strict=True):
        time = moments[0].time
        for cloud, arrow, moment in zip(clouds, arrows, moments, strict=True):
            cloud.set_data(*points(subject, moment).T)
            arrow.set_UVC(*_score(subject, max(time, CLEAN))[1].T)
        heading.set_text(f"from noise to data: t = {time:.2f}")
        frames.append(render(figure))
    return frames + [frames[-1]] * HOLD


def walk(subject: Subject, z: Tensor, rule: str, times: Tensor | None = None, nfe: int | None = None) -> list[Frame]:
    """Every moment of a way back from z by a sampler, at times or in a number of network calls."""
    return list(generate(subject.denoiser, z=z, sampler=rule, times=times, nfe=nfe, seed=subject.seed,
                         condition=common_class(subject)))


def start_noise(subject: Subject, count: int) -> Tensor:
    """(count, *shape) latents of pure noise."""
    return pure_noise(subject.denoiser, subject.seed, "start", range(count), subject.x)


def points(subject: Subject, frame: Frame) -> np.ndarray:
    """The latents of a frame at the scale of the data."""
    return (frame.latent / display_scale(subject.denoiser.schedule, frame.time)).cpu().numpy()


def common_class(subject: Subject) -> Condition:
    """The class of all samples, or None: a figure of several classes shows the model without a condition."""
    if not isinstance(subject.condition, Tensor):
        return subject.condition
    return int(subject.condition[0]) if len(subject.condition.unique()) == 1 else None


def density(subject: Subject, time: float) -> np.ndarray:
    """(SIDE, SIDE) q(z_t) over the axes, scaled to a maximum of 1; in closed form if possible, else by the flow."""
    ticks = torch.linspace(-REACH, REACH, SIDE, dtype=torch.float64)
    across, up = torch.meshgrid(ticks, ticks, indexing="xy")
    z = torch.stack([across, up], -1).reshape(-1, 2) * display_scale(subject.denoiser.schedule, time)
    exact: Any = getattr(subject.denoiser, "log_prob_at", None)
    if exact is not None:
        log = exact(z, time)
    else:
        log = ode_log_prob(subject.denoiser, z.to(subject.x), t=time, tolerance=ERROR, condition=common_class(subject))
    return (log - log.max()).exp().reshape(SIDE, SIDE).cpu().numpy()


def draw_background(axes: Any, shades: np.ndarray) -> None:
    """Draw a density as the background."""
    ticks = np.linspace(-REACH, REACH, SIDE)
    axes.contourf(ticks, ticks, shades, levels=np.linspace(0.02, 1, 12), cmap="Blues", alpha=0.75)


def frame_axes(axes: Any, title: str) -> None:
    """Set limits that noise and data fit into, and a title."""
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=range(-2, 3), yticks=range(-2, 3))
    style_axes(axes, title)


def check_plane(subject: Subject) -> None:
    """Raise ValueError unless samples are points of the plane."""
    if not subject.plane:
        raise ValueError(f"this figure shows points of the plane, but samples of this model have shape "
                         f"{tuple(subject.denoiser.shape)}; train on moons, mixture, or an array of shape (N, 2)")


def _score(subject: Subject, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of a coarse grid, and noise * score there, whose size does not depend on the time: both (n, 2)."""
    ticks = torch.linspace(-1.9, 1.9, 13)
    z = torch.cartesian_prod(ticks, ticks).to(subject.x)
    condition = common_class(subject)
    classes = None if condition is None else torch.as_tensor(condition).expand(len(z))
    with torch.no_grad():
        field = -subject.denoiser(z * display_scale(subject.denoiser.schedule, time), time, classes).eps
    return z.cpu().numpy(), field.cpu().numpy()


def _arrows(subject: Subject, axes: Any, time: float) -> Any:
    positions, field = _score(subject, time)
    return axes.quiver(*positions.T, *field.T, color="#333333", scale=22, width=0.004, zorder=3)
