"""`ornstein export`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ornstein.cli.app import Out, Run, app
from ornstein.display import say

__all__ = ["export"]


@app.command(sort_key=6.5)
def export(
    run: Run,
    *,
    onnx: Annotated[Out | None, Parameter(help="FILE.onnx for the network as a denoiser; with --nfe for the whole "
                                          "sampler, from noise to pictures.")] = None,
    nfe: Annotated[int | None, Parameter(help="Network calls a sample of that sampler.")] = None,
    guidance: Annotated[float | None, Parameter(help="Scale of classifier-free guidance of that sampler.")] = None,
) -> None:
    """Take a model to programs without Ornstein."""
    if onnx is None:
        raise ValueError("--onnx is missing: name a FILE.onnx")
    if guidance is not None and nfe is None:
        raise ValueError(f"--guidance is {guidance:g}, but the network alone has none; add --nfe for the whole sampler")
    from ornstein.checkpoint import load
    from ornstein.exporting.onnx import export as write
    from ornstein.exporting.onnx import refuse

    refuse(onnx)
    model = load(run)
    write(model, onnx, nfe, guidance=guidance)
    say(f"{onnx} written")
