"""What each kind of job does: its checks, its work, and the settings, code and command that describe its pictures."""

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
from ornstein.figures.edits import summarise
from ornstein.figures.subject import make_subject, read_sample
from ornstein.inputs import apply_mask, read_measurements, read_samples, run_edit, training_fit
from ornstein.request import Request
from ornstein.studio import arrays
from ornstein.studio.errors import Refused
from ornstein.studio.library import Model
from ornstein.studio.uploads import Uploads, read_upload
from ornstein.training.reopen import reopen

__all__ = ["EDITS", "SETTINGS", "Outcome", "as_images", "data_url", "equivalent_code", "network_calls",
           "picture_metadata", "run", "validate"]

EDITS = ("fill", "vary", "interpolate", "restore")
SETTINGS = ("seed", "label", "condition", "guidance", "nfe", "sampler", "steps")
MIN_WHITE = 0.02  # the smallest spread drawn as white, as a share of the data's range


@dataclass
class Outcome:
    """The finished pictures of a job with the class of each, further pictures by name, and other results."""

    images: list[Image.Image]
    labels: list[str | None] = field(default_factory=list)
    extra: dict[str, Image.Image] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    values: np.ndarray | None = None  # samples in the data's own units, unless the data are pictures


def as_request(body: Mapping[str, Any]) -> Request:
    """The body of a job as the library's request."""
    return Request(int(body.get("count", 1)), label=body.get("label"), condition=body.get("condition"),
                   guidance=body.get("guidance"), seed=body.get("seed", 0), sampler=body.get("sampler", "auto"),
                   nfe=body.get("nfe"), steps=body.get("steps"))


def validate(model: Model, body: Mapping[str, Any], uploads: Uploads) -> None:
    """Check a job before it is queued.

    Raises:
        Refused, ValueError, TypeError: a value is not allowed.
    """
    kind, is_picture = body["kind"], model.spec.kind == "picture"
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
        raise Refused(422, "other is the same as picture; choose two different ones", "other")
    if kind in EDITS and not is_picture and body.get("mask") is not None:
        raise Refused(422, "mask is for pictures; list the unknown stretches in unknown, or write NaN there", "mask")
    if body.get("unknown"):
        arrays.known_mask(model.spec, body["unknown"])
    if kind != "nearest":
        as_request({**body, "count": 1}).conditions(model.denoiser)


def network_calls(body: Mapping[str, Any]) -> int:
    """The number of sequential network calls that a job takes."""
    if body["kind"] == "generate":
        rule = SAMPLERS.get(body["sampler"])
        return body["nfe"] or (body["steps"] or 0) * (rule.calls if rule else 1) or NFE
    return body.get("nfe", 2 * NFE) * (2 if body["kind"] == "interpolate" else 1)


def run(model: Model, body: Mapping[str, Any], uploads: Uploads) -> Outcome:
    """Do the work of a job, in the calling thread."""
    kind = body["kind"]
    if kind == "generate":
        return _generate(model, body)
    if kind == "trace":
        return _trace(model, body, uploads)
    if kind == "nearest":
        return _nearest(model, body, uploads)
    return _edit(model, body, uploads)


def as_images(spec: DataSpec, x: Tensor) -> list[Image.Image]:
    """Samples (B, *shape) as pictures; arrays are plotted."""
    if spec.kind == "picture":
        return [Image.fromarray(values) for values in pictures.file_pixels(spec, x)]
    return [pictures.show(spec, sample[None], 1) for sample in x]


def data_url(image: Image.Image) -> str:
    """A picture as a data URL."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _outcome(spec: DataSpec, x: Tensor, labels: Sequence[str | None] = ()) -> Outcome:
    x = x.cpu()
    values = None if spec.kind == "picture" else spec.arrange(spec.decode(x))
    return Outcome(as_images(spec, x), [*labels] or [None] * len(x), values=values)


def _generate(model: Model, body: Mapping[str, Any]) -> Outcome:
    request = as_request(body)
    x, conditions = list(request.frames(model.denoiser))[-1].latent, request.conditions(model.denoiser)
    has_classes = conditions is not None and not conditions.is_floating_point()
    return _outcome(model.spec, x, [model.spec.classes[int(label)] for label in conditions] if has_classes else [])


def _edit(model: Model, body: Mapping[str, Any], uploads: Uploads) -> Outcome:
    kind, spec, fit = body["kind"], model.spec, training_fit(model.path)
    paths = {name: uploads.locate(body[name], name) for name in ("picture", "other") if body.get(name)}
    operator = read_operator(body["operator"], spec.shape) if kind == "restore" else None
    measure = operator is not None and body["measure"]
    inputs = [read_upload(name, path, lambda path: read_samples(spec, path, fit) if operator is None or measure else
                          read_measurements(spec, operator.into, path, fit))
              for name, path in paths.items()]
    first = inputs[0]
    if operator is not None and measure:
        first.values = operator(torch.from_numpy(first.values)).numpy()
    if body.get("mask") is not None:
        read_upload("mask", uploads.locate(body["mask"], "mask"),
                    lambda path: apply_mask(spec, path, first, fit, "picture"))
    first.values = arrays.single_row(first.values, body.get("row", 0))
    if body.get("unknown"):
        first.values = np.where(arrays.known_mask(spec, body["unknown"]), first.values, np.nan)
    for sample, name in zip(inputs, paths, strict=True):
        _check_input(spec, kind, name, sample.values)
    is_conditional = body["label"] is not None or body["condition"] is not None
    conditions = as_request(body).conditions(model.denoiser) if is_conditional else None
    options = {"nfe": body["nfe"], "condition": None if conditions is None else conditions[:1],
               "guidance": body["guidance"]}
    x = run_edit(model.denoiser, spec, kind, inputs, body["count"], body["seed"], options, operator, body.get("noise"),
                 body.get("strength", 0.5)).cpu()
    outcome = _outcome(spec, x)
    outcome.result = {"notes": [note.replace(str(path), name) for sample, (name, path) in
                                zip(inputs, paths.items(), strict=True) for note in sample.notes]}
    if kind != "interpolate" and len(x) > 1 and spec.kind == "picture":
        outcome.extra, outcome.result["spread"] = _mean_and_spread(spec, x)
    elif kind != "interpolate" and len(spec.shape) < 3:
        outcome.result["bands"] = arrays.bands(spec, x)
    return outcome


def _check_input(spec: DataSpec, kind: str, name: str, values: np.ndarray) -> None:
    """Refuse several samples, and unknown values except where they are to be filled."""
    if len(values) > 1:
        raise Refused(422, f"{name} holds {len(values)} samples; it must hold one", name)
    unknown = int(np.isnan(values).sum())
    if unknown and kind != "fill":
        raise Refused(422, f"{name} has {unknown} unknown values; fill them first", name)
    if not unknown and kind == "fill":
        if spec.kind == "picture":
            raise Refused(422, "nothing in the picture is unknown; give a mask that is white where it is to be filled",
                          "mask")
        raise Refused(422, "nothing in the sample is unknown; list stretches in unknown, or write NaN", "unknown")


def _mean_and_spread(spec: DataSpec, x: Tensor) -> tuple[dict[str, Image.Image], float]:
    """Pictures of the mean and the spread of draws (count, *shape), and the spread drawn white as a share of the range.
    """
    low, high = spec.extent
    spread = (summarise(spec.decode(x)[None])["std"][0] / (high - low)).mean(0)
    white = max(float(spread.max()), MIN_WHITE)
    return {"mean": Image.fromarray(pictures.picture(spec, x.mean(0, keepdim=True))[0]),
            "spread": Image.fromarray(np.round(255 * spread / white).astype(np.uint8))}, white


def _trace(model: Model, body: Mapping[str, Any], uploads: Uploads) -> Outcome:
    image = None if body["picture"] is None else uploads.locate(body["picture"], "picture")
    label = None if body["label"] is None else str(body["label"])
    traced = read_upload("picture", image or Path(), lambda _: make_subject(model.denoiser, image, label, body["seed"]))
    if image is not None:
        traced = replace(traced, what="a picture of your own")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trace.png"
        trace.write(traced, out, body["figure"])
        with Image.open(out) as figure:
            return Outcome([figure.copy()], [None])


def _nearest(model: Model, body: Mapping[str, Any], uploads: Uploads) -> Outcome:
    data = reopen(model.path, require_unseen=False).trained_on
    x = read_upload("picture", uploads.locate(body["picture"], "picture"), lambda path: read_sample(model.spec, path))
    neighbours = nearest(x, data, body["count"])[0]
    outcome = _outcome(data.spec, data.batch([neighbour.row for neighbour in neighbours])[0],
                       [neighbour.label or None for neighbour in neighbours])
    outcome.result = {"neighbours": [
        {"row": neighbour.row, "name": Path(neighbour.name).name, "label": neighbour.label or None,
         "distance": neighbour.distance, "how": neighbour.how} for neighbour in neighbours]}
    return outcome


def picture_metadata(model: Model, body: Mapping[str, Any], job: str, version: str) -> dict[str, Any]:
    """The settings that every picture of a job carries in its file."""
    settings = {name: body[name] for name in SETTINGS if body.get(name) is not None}
    request = as_request(body)
    details = request.choice_facts(model.denoiser) if body["kind"] == "generate" else {"edit": body["kind"]}
    return {**request.facts(), **settings, **details, "run": str(model.path), "model": model.digest,
            "ornstein": version, "studio": {"job": job, "model": model.name, "request": dict(body)}}


def equivalent_code(path: str, body: Mapping[str, Any]) -> dict[str, str]:
    """The same job in Python and on the command line."""
    options = {key: body[key] for key in ("count", "seed", "label", "guidance", "nfe", "steps", "sampler", "strength",
                                          "operator", "noise")
               if body.get(key) is not None and (key, body[key]) not in (("sampler", "auto"), ("guidance", 1))}
    kind, quoted = body["kind"], shlex.quote(path)
    flags = "".join(f" --{key} {shlex.quote(str(value))}" for key, value in options.items())
    if kind == "generate":
        arguments = _arguments({key: value for key, value in options.items() if key != "count"})
        return {"python": f"orn.sample(orn.load({path!r}), {body['count']}{arguments})",
                "command": f"ornstein sample {quoted}{flags} --out {kind}"}
    if kind in EDITS:
        inputs = "PICTURE OTHER" if kind == "interpolate" else "PICTURE" + " --mask MASK" * bool(
            body.get("mask") or body.get("unknown"))
        call = {"fill": "inpaint(model, x, mask", "vary": f"vary(model, x, {options.pop('strength', 0.5)}",
                "interpolate": "interpolate(model, a, b",
                "restore": f"restore(model, y, {options.pop('operator', '')!r}, {options.pop('noise', 'noise')}"}[kind]
        return {"python": f"orn.{call}{_arguments(options)})",
                "command": f"ornstein edit {quoted} {kind} {inputs}{flags} --out {kind}"}
    return {"python": "", "command": f"ornstein {kind} {quoted} PICTURE --out {kind}.png"}


def _arguments(options: Mapping[str, Any]) -> str:
    return "".join(f", {'condition' if key == 'label' else key}={value!r}" for key, value in options.items())
