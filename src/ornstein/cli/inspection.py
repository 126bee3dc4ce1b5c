"""`ornstein trace`, `ornstein check` and `ornstein list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ornstein.arguments import alternatives, require
from ornstein.cli.app import Out, Run, Seed, app
from ornstein.display import say

__all__ = ["check", "list_", "trace"]

LISTS = ("samplers", "schedules", "networks", "data")


@app.command(sort_key=7)
def trace(
    run: Run,
    image: Annotated[Path | None, Parameter(
        help="A picture of your own; by default, and for arrays, a sample of the model.")] = None,
    *,
    out: Annotated[Out, Parameter(help="FILE.png; for points also FILE.gif or FILE.webp, animated.")],
    figure: Annotated[str, Parameter(
        help="bound, chain, field, graph, guidance, kernel, noising, posterior, reverse, samplers or schedules; auto "
             "is the field for points of the plane, otherwise the chain.")] = "auto",
    label: Annotated[str | None, Parameter(help="The class of the way back, by name or index.")] = None,
    seed: Seed = 0,
) -> None:
    """Draw a figure of the chapter with your own model and picture: by default, the way to noise and back."""
    if out.suffix.lower() not in (".png", ".gif", ".webp"):
        raise ValueError(f"out is {out}; it must end in .png, or in .gif or .webp for an animated figure")
    from ornstein import files
    from ornstein.checkpoint import load
    from ornstein.figures.trace import draw

    files.check_replaceable(out)
    files.check_writable(out)
    draw(load(run), out, image=image, label=label, seed=seed, figure=figure)
    say(f"drawn into {out}")


@app.command(sort_key=8)
def check(
    own: Annotated[str | None, Parameter(help="path.py:Class of a schedule or sampler rule of your own.")] = None,
) -> None:
    """Verify this installation, or a schedule or sampler of your own, against closed forms."""
    from ornstein.check import certify

    failed = 0
    for result in certify(own):
        say(("ok    " if result.holds else "FAILS ") + result.line)
        failed += not result.holds
    if failed:
        raise RuntimeError(f"{failed} of these checks failed")


@app.command(name="list", sort_key=9)
def list_(
    what: Annotated[str, Parameter(help=f"{alternatives(*LISTS)}.")],
) -> None:
    """List the names that the other commands take."""
    require("list", what, LISTS)
    if what == "samplers":
        from ornstein.diffusion.samplers import samplers

        lines = {name: f"order {facts['order']}, {'random' if facts['stochastic'] else 'deterministic'}, "
                       f"{facts['calls']} call{'s' if facts['calls'] != 1 else ''} per step, "
                       f"times even in {facts['spacing']}"
                 for name, facts in samplers().items()}
    elif what == "data":
        from ornstein.data import sources

        lines = {**sources(), "PATH": "a folder of pictures, or several; .npy, .npz, .csv, .parquet or .tar files",
                 "hf:NAME": "a data set of the Hugging Face Hub"}
    else:
        table: Any
        if what == "schedules":
            from ornstein.diffusion.schedule import SCHEDULES as table
        else:
            from ornstein.networks import NETWORKS as table
        lines = {name: (kind.__doc__ or "").strip().splitlines()[0] for name, kind in table.items()}
    width = max(map(len, lines))
    for name, line in lines.items():
        say(f"{name:{width}}  {line}")
