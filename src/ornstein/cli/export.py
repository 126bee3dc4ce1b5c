"""`ornstein export`."""

from __future__ import annotations

import json
from pathlib import Path
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
    hub: Annotated[Out | None, Parameter(help="Folder for the Hugging Face Hub, with a model card.")] = None,
    timesteps: Annotated[bool, Parameter(negative="", help="Print the sampler's times as JSON for diffusers and "
                                         "k-diffusion.")] = False,
    nfe: Annotated[int | None, Parameter(help="Network calls per sample; 20 by default for "
                                         "--timesteps.")] = None,
    guidance: Annotated[float | None, Parameter(help="Scale of classifier-free guidance of the sampler.")] = None,
    out: Annotated[Out | None, Parameter(help="FILE.json for --timesteps, instead of printing.")] = None,
    license_: Annotated[str | None, Parameter(name="--license", help="License for --hub, by the Hub's name: "
                                              "apache-2.0, cc-by-4.0, other ...")] = None,
    report: Annotated[Path | None, Parameter(help="Report of `ornstein evaluate`, whose figures --hub puts on the "
                                             "card; by default RUN/report if it exists.")] = None,
) -> None:
    """Write a model for other programs: ONNX, the Hugging Face Hub, times for other samplers."""
    _check(onnx, hub, timesteps, {"nfe": nfe, "guidance": guidance, "out": out, "license": license_, "report": report})
    from ornstein import files
    from ornstein.checkpoint import load

    if onnx is not None:  # before the model is read
        from ornstein.exporting.onnx import check_target

        check_target(onnx)
    if hub is not None:
        from ornstein.exporting.hub import write_hub

        write_hub(run, hub, license_, report)
        say(f"{hub} has config.json, model.safetensors, README.md and samples.png")
    if onnx is None and not timesteps:
        return
    model = load(run)
    if onnx is not None:
        from ornstein.exporting.onnx import export as write_onnx

        write_onnx(model, onnx, nfe, guidance=guidance)
        content = "the denoiser" if nfe is None else f"the sampler of {nfe} calls"
        say(f"{onnx} is {content}, {onnx.stat().st_size / 1e6:.1f} MB")
    if timesteps:
        from ornstein.diffusion.samplers.loop import NFE
        from ornstein.exporting import times

        text = json.dumps(times.timesteps(model, NFE if nfe is None else nfe, 1.0 if guidance is None else guidance))
        if out is None:
            say(text)
        else:
            files.write_text(out, text + "\n")
            say(f"{out} written")


def _check(onnx: Path | None, hub: Path | None, timesteps: bool, options: dict[str, object]) -> None:
    """Refuse options that no requested export takes."""
    if onnx is None and hub is None and not timesteps:
        raise ValueError("nothing to export; name --onnx FILE.onnx, --hub FOLDER or --timesteps")
    has_sampler = onnx is not None or timesteps
    uses = {"nfe": (has_sampler, "--onnx or --timesteps"), "guidance": (has_sampler, "--onnx or --timesteps"),
            "out": (timesteps, "--timesteps"), "license": (hub is not None, "--hub"),
            "report": (hub is not None, "--hub")}
    for name, value in options.items():
        is_used, exports = uses[name]
        if value is not None and not is_used:
            raise ValueError(f"--{name} is {value}, which only {exports} takes; leave it out")
    if options["guidance"] is not None and options["nfe"] is None and onnx is not None:
        raise ValueError(f"--guidance is {options['guidance']}, but the network alone has none; add --nfe for the "
                         "whole sampler")
