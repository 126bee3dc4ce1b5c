"""What each kind of job does: pictures, what they say of themselves, and figures for the page."""

from __future__ import annotations

import base64
import io
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ornstein.arguments import require
from ornstein.data import DataSpec
from ornstein.diffusion.editing.operator import read_operator
from ornstein.diffusion.samplers.loop import NFE, SAMPLERS
from ornstein.evaluation.nearest import nearest
from ornstein.figures import pictures, trace
from ornstein.figures.edits import figures_of
from ornstein.figures.subject import read_sample, subject
from ornstein.inputs import apply_mask, read_measurements, read_samples, run_edit, training_fit
from ornstein.request import Request
from ornstein.studio import arrays
from ornstein.studio.library import Model
from ornstein.studio.refusal import Refused
from ornstein.studio.uploads import Uploads, read_as
from ornstein.training.reopen import reopen

__all__ = ["EDITS", "FACTS", "Outcome", "as_images", "calls", "check", "code", "data_url", "facts_of", "perform"]

EDITS = ("fill", "vary", "interpolate", "restore")
FACTS = ("seed", "label", "condition", "guidance", "nfe", "sampler", "steps")
LEAST = 0.02  # of the spread that is drawn white, in parts of the data's range


@dataclass
class Outcome:
    """Finished pictures, with the class of each, more pictures by name, and what else there is to tell."""

    images: list[Image.Image]
    labels: list[str | None] = field(default_factory=list)
    extra: dict[str, Image.Image] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    values: np.ndarray | None = None  # in the data's own units, of data that are no pictures


def asked(body: Mapping[str, Any]) -> Request:
    """What a body asks of a model."""
    return Request(int(body.get("count", 1)), label=body.get("label"), condition=body.get("condition"),
                   guidance=body.get("guidance"), seed=body.get("seed", 0), sampler=body.get("sampler", "auto"),
                   nfe=body.get("nfe"), steps=body.get("steps"))


def check(model: Model, body: Mapping[str, Any], uploads: Uploads) -> None:
    """Refuse what is wrong before the job is queued: raises Refused, or ValueError in the library's words."""
    kind, picture = body["kind"], model.spec.kind == "picture"
    for name in ("picture", "mask", "other"):
        if body.get(name) is not None:
            uploads.locate(body[name], name)
    if kind == "generate":
        require("sampler", body["sampler"], ["auto", *SAMPLERS])
        if body["nfe"] is not None and body["steps"] is not None:
            raise Refused(422, "nfe and steps are both given; give one of them", "nfe")
    if kind == "trace":
        require("figure", body["figure"], ["auto", *trace.FIGURES])
    if kind == "restore":
        read_operator(body["operator"], model.spec.shape)
    if kind == "interpolate" and body["picture"] == body["other"]:
        raise Refused(422, "other is the same as picture; name two", "other")
    if kind in EDITS and not picture and body.get("mask") is not None:
        raise Refused(422, "mask is for pictures; name the stretches that are unknown, or write NaN there", "mask")
    if body.get("unknown"):
        arrays.known(model.spec, body["unknown"])
    if kind != "nearest":
        asked({**body, "count": 1}).conditions(model.denoiser)


def calls(body: Mapping[str, Any]) -> int:
    """Network calls that the walks of a job take, one after another."""
    if body["kind"] == "generate":
        rule = SAMPLERS.get(body["sampler"])
        return body["nfe"] or (body["steps"] or 0) * (rule.calls if rule else 1) or NFE
    return body.get("nfe", 2 * NFE) * (2 if body["kind"] == "interpolate" else 1)


def perform(model: Model, body: Mapping[str, Any], uploads: Uploads) -> Outcome:
    """Do the work of a job, in the thread that is called from."""
    kind = body["kind"]
    if kind == "generate":
        request = asked(body)
        x, conditions = list(request.frames(model.denoiser))[-1].latent, request.conditions(model.denoiser)
        named = conditions is not None and not conditions.is_floating_point()
        return _drawn(model.spec, x, [model.spec.classes[int(one)] for one in conditions] if named else [])
    if kind == "trace":
        return _traced(model, body, uploads)
    if kind == "nearest":
        return _neighbours(model, body, uploads)
    return _edited(model, body, uploads)


def as_images(spec: DataSpec, x: Tensor) -> list[Image.Image]:
    """Samples (B, *shape) as pictures: their own pixels, or arrays drawn."""
    if spec.kind == "picture":
        return [Image.fromarray(one) for one in pictures.single(spec, x)]
    return [pictures.show(spec, one[None], 1) for one in x]


def data_url(image: Image.Image) -> str:
    """A picture as the address of itself."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _drawn(spec: DataSpec, x: Tensor, labels: Sequence[str | None] = ()) -> Outcome:
    x = x.cpu()
    values = None if spec.kind == "picture" else spec.arrange(spec.decode(x))
    return Outcome(as_images(spec, x), [*labels] or [None] * len(x), values=values)


def _edited(model: Model, body: Mapping[str, Any], uploads: Uploads) -> Outcome:
    kind, spec, fit = body["kind"], model.spec, training_fit(model.path)
    places = {name: uploads.locate(body[name], name) for name in ("picture", "other") if body.get(name)}
    measured = read_operator(body["operator"], spec.shape) if kind == "restore" else None
    whole = measured is None or body["measure"]
    given = [read_as(name, path, lambda path: read_samples(spec, path, fit) if whole else
                     read_measurements(spec, measured.into, path, fit))
             for name, path in places.items()]
    if measured is not None and whole:
        given[0].values = measured(torch.from_numpy(given[0].values)).numpy()
    if body.get("mask") is not None:
        read_as("mask", uploads.locate(body["mask"], "mask"),
               lambda path: apply_mask(spec, path, given[0], fit, "picture"))
    given[0].values = arrays.row(given[0].values, body.get("row", 0))
    if body.get("unknown"):
        given[0].values = np.where(arrays.known(spec, body["unknown"]), given[0].values, np.nan)
    for one, name in zip(given, places, strict=True):
        if len(one.values) > 1:
            raise Refused(422, f"{name} holds {len(one.values)} samples; it must hold one", name)
        lost = int(np.isnan(one.values).sum())
        if lost and kind != "fill":
            raise Refused(422, f"{name} has {lost} values that are unknown; fill them first", name)
        if not lost and kind == "fill":
            raise Refused(422, "nothing of the picture is unknown; give a mask that is white where it is to be filled"
                          if spec.kind == "picture" else "nothing of the sample is unknown; name stretches in unknown, "
                          "or write NaN", "mask" if spec.kind == "picture" else "unknown")
    request = asked(body)
    told = request.conditions(model.denoiser) if body["label"] is not None or body["condition"] is not None else None
    words = {"nfe": body["nfe"], "condition": None if told is None else told[:1], "guidance": body["guidance"]}
    x = run_edit(model.denoiser, spec, kind, given, body["count"], body["seed"], words, measured, body.get("noise"),
                 body.get("strength", 0.5)).cpu()
    drawn = _drawn(spec, x)
    drawn.result = {"notes": [note.replace(str(path), name)
                              for one, (name, path) in zip(given, places.items(), strict=True) for note in one.notes]}
    if kind != "interpolate" and len(x) > 1 and spec.kind == "picture":
        drawn.extra, spread = _spread(spec, x)
        drawn.result["spread"] = spread
    elif kind != "interpolate" and len(spec.shape) < 3:
        drawn.result["bands"] = arrays.bands(spec, x)
    return drawn


def _spread(spec: DataSpec, x: Tensor) -> tuple[dict[str, Image.Image], float]:
    """Mean of draws (count, *shape), and how far they are spread: white is the most, which is told as a share."""
    low, high = spec.extent
    wide = (figures_of(spec.decode(x)[None])["std"][0] / (high - low)).mean(0)
    most = max(float(wide.max()), LEAST)
    return {"mean": Image.fromarray(pictures.picture(spec, x.mean(0, keepdim=True))[0]),
            "spread": Image.fromarray(np.round(255 * wide / most).astype(np.uint8))}, most


def _traced(model: Model, body: Mapping[str, Any], uploads: Uploads) -> Outcome:
    image = None if body["picture"] is None else uploads.locate(body["picture"], "picture")
    label = None if body["label"] is None else str(body["label"])
    of = read_as("picture", image or Path(), lambda _: subject(model.denoiser, image, label, body["seed"]))
    if image is not None:
        of = replace(of, what="a picture of your own")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trace.png"
        trace.write(of, out, body["figure"])
        with Image.open(out) as drawn:
            return Outcome([drawn.copy()], [None])


def _neighbours(model: Model, body: Mapping[str, Any], uploads: Uploads) -> Outcome:
    data = reopen(model.path, judged=False).trained_on
    x = read_as("picture", uploads.locate(body["picture"], "picture"), lambda path: read_sample(model.spec, path))
    found = nearest(x, data, body["count"])[0]
    drawn = _drawn(data.spec, data.batch([one.row for one in found])[0], [one.label or None for one in found])
    drawn.result = {"neighbours": [{"row": one.row, "name": Path(one.name).name, "label": one.label or None,
                                    "distance": one.distance, "how": one.how} for one in found]}
    return drawn


def facts_of(model: Model, body: Mapping[str, Any], job: str, version: str) -> dict[str, Any]:
    """What every picture of a job says of itself."""
    settings = {name: body[name] for name in FACTS if body.get(name) is not None}
    request, own = asked(body), dict[str, Any](edit=body["kind"])
    if body["kind"] == "generate":
        own = request.kept_choice(model.denoiser)
    return {**request.facts(), **settings, **own, "run": str(model.path), "model": model.digest, "ornstein": version,
            "studio": {"job": job, "model": model.name, "request": dict(body)}}


def code(path: str, body: Mapping[str, Any]) -> dict[str, str]:
    """The same job as Python and as a command."""
    given = {key: body[key] for key in ("count", "seed", "label", "guidance", "nfe", "steps", "sampler", "strength",
                                        "operator", "noise")
             if body.get(key) is not None and (key, body[key]) not in (("sampler", "auto"), ("guidance", 1))}
    kind, run = body["kind"], shlex.quote(path)
    flags = "".join(f" --{key} {shlex.quote(str(value))}" for key, value in given.items())
    if kind == "generate":
        words = {("condition" if key == "label" else key): value for key, value in given.items() if key != "count"}
        python = "".join(f", {key}={value!r}" for key, value in words.items())
        return {"python": f"orn.sample(orn.load({path!r}), {body['count']}{python})",
                "command": f"ornstein sample {run}{flags} --out {kind}"}
    if kind in EDITS:
        inputs = "PICTURE OTHER" if kind == "interpolate" else "PICTURE" + " --mask MASK" * bool(
            body.get("mask") or body.get("unknown"))
        call = {"fill": "inpaint(model, x, mask", "vary": f"vary(model, x, {given.pop('strength', 0.5)}",
                "interpolate": "interpolate(model, a, b",
                "restore": f"restore(model, y, {given.pop('operator', '')!r}, {given.pop('noise', 'noise')}"}[kind]
        python = "".join(f", {'condition' if key == 'label' else key}={value!r}" for key, value in given.items())
        return {"python": f"orn.{call}{python})", "command": f"ornstein edit {run} {kind} {inputs}{flags} --out {kind}"}
    return {"python": "", "command": f"ornstein {kind} {run} PICTURE --out {kind}.png"}
