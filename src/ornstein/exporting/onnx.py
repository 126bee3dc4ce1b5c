"""A model as an ONNX file: the network as a denoiser, or the whole sampler, for programs without PyTorch."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from ornstein import files
from ornstein.adoption.onnx import OnnxNetwork
from ornstein.adoption.unet import Unet
from ornstein.arguments import require_float, short_repr, shorten
from ornstein.diffusion.denoiser import Denoiser, NetworkDenoiser, Wrapped
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers.loop import chosen
from ornstein.exporting.graph import CALL, Denoising, Drawing, Velocity, family, whole
from ornstein.exporting.times import name_of
from ornstein.isolation import isolated

__all__ = ["KEY", "export", "refuse"]

KEY = "ornstein"  # of what a file says of itself
OPSET = 20  # that every onnxruntime of the extra runs
ROWS = 3  # of the example that is traced: 0 and 1 would be taken for fixed
NEEDED = ("onnx", "onnxscript", "onnxruntime")
MOST = 2**31 - 2**20  # bytes of weights, for a file of Protocol Buffers holds 2 GiB


def refuse(path: Path) -> None:
    """Raise for a path that is no place for an ONNX file, or where a package is missing that makes one."""
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"path is {path}; it must end in .onnx")
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ModuleNotFoundError(f"{path} needs {' and '.join(missing)}: pip install 'ornstein[onnx]'")
    files.check_replaceable(path)
    files.check_writable(path)


@isolated(gradients=False)
def export(model: Denoiser, path: str | Path, nfe: int | None = None, *,
           guidance: float | None = None) -> None:
    """Write a model as an ONNX file that runs without Ornstein and PyTorch.

    Without `nfe` the graph is the denoiser: inputs z (B, *shape), log_snr (B,) and class (B,) int64, -1 for none, or
    condition (B, K) with NaN rows for none; outputs x, eps and v, each like z. With `nfe` it is the whole sampler:
    inputs z (B, *shape), a latent at t = 1, and class or condition; output samples in the data's own values and layout,
    bytes of pictures, as `ornstein sample --out FILE.npz` has them; in [-1, 1] where the model says nothing of its
    data. The batch is free, numbers are float32, and all is arithmetic: what PyTorch would check is not checked. The
    file says what it is, as JSON under the key "ornstein" of its metadata.

    Args:
        model: a model that was trained or loaded.
        path: of the file, which must end in .onnx.
        nfe: network calls a sample: by what `ornstein.tune` chose for so many, else as sampler "auto" without tuning.
        guidance: scale of classifier-free guidance, with nfe; None or 1 is none.

    Raises:
        TypeError: a denoiser around another one, or no denoiser.
        ValueError: a path of another ending; guidance without nfe or without a condition; without nfe a schedule whose
            signal and noise do not follow from the log SNR, or a model of another library or of a class of your own; a
            network that ONNX cannot express, with the operation; weights of more than 2 GiB.
        ModuleNotFoundError: the extra "onnx" is not installed.
        OSError: the disk refuses.
    """
    if not isinstance(model, Denoiser) or isinstance(model, Wrapped):
        raise TypeError(f"model is a {type(model).__name__}; only a denoiser itself can be exported"
                        + (" (guidance is an option of export)" if isinstance(model, Wrapped) else ""))
    if isinstance(network := getattr(model, "network", None), Unet | OnnxNetwork):
        raise ValueError("the model is a " + (
            "graph already; its own file is what it was adopted from" if isinstance(network, OnnxNetwork) else
            "UNet2DModel of diffusers, whose code goes another way from 64 rows on, so that no graph is of any number "
            "of rows; sample it with ornstein sample"))
    path = Path(path)
    refuse(path)
    with torch.device("cpu"):
        own = copy.deepcopy(model).to("cpu", torch.float32).eval()
        size = sum(value.nbytes for value in own.state_dict().values())
        if size > MOST:
            raise ValueError(f"the model has {size / 2**30:.1f} GiB of weights; an ONNX file holds at most 2 GiB")
        graph, facts = _denoising(own, guidance) if nfe is None else _drawing(own, nfe, guidance)
    version = importlib.metadata.version(KEY)
    data = getattr(own, "data", None)
    facts |= {"shape": list(own.shape), "data": None if data is None else data.as_dict(), "ornstein": version}
    if isinstance(own, NetworkDenoiser):
        facts |= {"predicts": own.predicts, "log_snr_range": list(own.log_snr_range)}
    graph.metadata_props[KEY] = json.dumps(facts)
    graph.producer_name, graph.producer_version = KEY, version
    from onnxscript import ir

    with files.replacing(path) as place:
        ir.save(graph, place)


def _ours(model: Denoiser) -> TypeGuard[NetworkDenoiser]:
    """Whether a model is calculated as `NetworkDenoiser` has it, and not by a class of its own."""
    return isinstance(model, NetworkDenoiser) and all(
        getattr(type(model), name) is getattr(NetworkDenoiser, name) for name in ("forward", "velocity"))


def _denoising(model: Denoiser, guidance: float | None) -> tuple[Any, dict[str, Any]]:
    """The graph of the denoiser, and what the file says of it."""
    if guidance is not None:
        raise ValueError(f"guidance is {short_repr(guidance)}, but nfe is not given; name it, or guide yourself: call "
                         "the graph a second time with class -1 (or a condition of NaN)")
    if not _ours(model):
        raise ValueError(f"nfe is not given, and {type(model).__name__} is no network that is told the log SNR; name "
                         "it, for a graph of the whole sampler")
    latents = _latents(model)
    inputs = {"z": latents, "log_snr": torch.linspace(-2, 2, ROWS, dtype=torch.float32), **_told(model)}
    outputs = ["x", "eps", "v"]
    return _graph(Denoising(model), inputs, outputs), {
        "kind": "denoiser", "inputs": list(inputs), "outputs": outputs, "latents": family(model.schedule)}


def _drawing(model: Denoiser, nfe: int, guidance: float | None) -> tuple[Any, dict[str, Any]]:
    """The graph of the sampler, and what the file says of it."""
    scale = 1.0 if guidance is None else require_float("guidance", guidance)
    told = _told(model)
    if scale != 1 and not told:
        raise ValueError(f"guidance is {scale:g}, but this model knows no classes or conditions to guide towards; "
                         "leave it out")
    rule, times, choice = chosen(model, "auto", nfe, guidance=scale)
    damping = 0.0 if choice is None else choice.damping
    inputs = {"z": _latents(model), **told}
    own = None if _ours(model) else whole(model, scale, damping)
    drawing = Drawing(model.schedule, getattr(model, "data", None), rule, times, own)
    drawing(*inputs.values())  # what a schedule calculates is calculated now
    walk = _graph(drawing, inputs, ["samples"], free=own is not None)
    if _ours(model):
        level = {name: torch.tensor(0.5, dtype=torch.float32) for name in ("signal", "noise", "log_snr")}
        _join(walk, _graph(Velocity(model, scale, damping), {"z": inputs["z"], **level, **told}, ["v"]))
    return walk, {
        "kind": "sampler", "inputs": list(inputs), "outputs": ["samples"], "nfe": nfe, "sampler": name_of(rule),
        "tuned": choice is not None, "times": times.tolist(), "guidance": scale, "damping": damping,
        "z_std": float(model.schedule.level(as_time(1.0)).radius)}


def _latents(model: Denoiser) -> Tensor:
    """An example of latents."""
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randn(ROWS, *model.shape, generator=generator, dtype=torch.float32)


def _told(model: Denoiser) -> dict[str, Tensor]:
    """An example of what the model is told of each sample, by the name of the input; nothing where it is told nothing.
    """
    if not isinstance(model, NetworkDenoiser):
        return {}
    known = model.conditions
    if known.kind == "classes":
        return {"class": torch.zeros(ROWS, dtype=torch.int64)}
    if known.kind != "vectors":
        return {}
    mean = torch.zeros(known.count, dtype=torch.float32) if model.condition_mean is None else model.condition_mean
    return {"condition": mean.repeat(ROWS, 1)}


def _graph(module: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str], free: bool = True) -> Any:
    """A module as a graph (`onnx_ir.Model`), traced on an example of each input, whose first axis is free.

    Where nothing but the example's own number of rows is in question, as in sums of latents, it is traced in a quarter
    of the time without `free`, and freed afterwards.
    """
    from onnxscript import ir

    example, batch = tuple(inputs.values()), torch.export.Dim("batch")
    shapes = tuple({0: batch} if value.ndim and free else {} for value in example)
    try:
        with _quiet():
            # Traced here, and not by the exporter, which takes other ways where this one fails, and fixes the batch.
            program = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
            made: Any = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=list(inputs), output_names=outputs,
                verbose=False, custom_translation_table={torch.ops.aten.hypot.default: _hypot})
    except Exception as error:  # of a dozen types, all of which mean that this network cannot be a graph
        raise ValueError(f"the network cannot be a graph of ONNX: {_why(error)}") from error
    graph = made.model
    ends = [*graph.graph.inputs, *graph.graph.outputs]
    for part in (*graph.graph, *graph.graph.inputs, *graph.graph.initializers.values()):
        part.metadata_props.clear()  # where in somebody's files it was traced
    for value in (value for node in graph.graph for value in node.outputs):
        value.metadata_props.clear()
        if value not in ends:
            value.shape = None  # that of the example; a runtime knows better
    for value in ends:
        if value.shape is not None and len(value.shape):
            value.shape = ir.Shape(["batch", *list(value.shape)[1:]])
    return graph


def _join(walk: Any, velocity: Any) -> None:
    """Give the calls in the graph of a sampler the graph that they stand for, as a function of ONNX.

    A function holds no weights, so they are inputs of every call.
    """
    from onnxscript import ir

    body, weights = velocity.graph, []
    for name, value in list(body.initializers.items()):
        held = ir.Value(name=f"velocity.{name}", shape=value.shape, type=value.type, const_value=value.const_value)
        walk.graph.initializers[held.name] = held
        weights.append(held)
        del body.initializers[name]
        value.const_value = None
        body.inputs.append(value)
    domain, name = CALL.split("::")
    function = ir.Function(domain, name, "", graph=body, attributes=[])
    walk.functions.update({**velocity.functions, function.identifier(): function})
    walk.opset_imports[domain] = 1
    for node in walk.graph:
        if node.domain == domain:
            first = len(node.inputs)
            node.resize_inputs(first + len(weights))
            for place, weight in enumerate(weights, first):
                node.replace_input_with(place, weight)


def _hypot(a: Any, b: Any) -> Any:
    """`torch.hypot`, which the exporter does not know, in ONNX's own operations."""
    import onnxscript

    op: Any = onnxscript.opset20
    large, small = op.Max(op.Abs(a), op.Abs(b)), op.Min(op.Abs(a), op.Abs(b))
    least, one = (op.CastLike(op.Constant(value_float=value), large) for value in (1e-37, 1.0))
    share = op.Div(small, op.Max(large, least))
    return op.Mul(large, op.Sqrt(op.Add(op.Mul(share, share), one)))


def _why(error: BaseException) -> str:
    """What of a network kept it from being a graph, on one line, from what torch says on hundred."""
    reasons, cause = list[BaseException](), error
    while cause is not None:
        reasons.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(map(str, reasons))
    if operation := re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", text):
        return f"it has no operation for {operation[1]}; write it with others, or leave it out"
    if "Constraints violated" in text:
        return ("its code fixes the number of rows, as in view(3, 4) or len(y); write -1 or y.shape[0] for it")
    if "data-dependent" in text:
        lines = re.findall(r"File .*, line \d+, in \w+\n +(.+)", text)
        return ("its code decides by the values of a tensor" + (f", in `{shorten(lines[-1])}`" if lines else "")
                + "; write torch.where in place of if")
    return shorten(" ".join(str(reasons[-1]).split()) or type(reasons[-1]).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what tracing says to those who write exporters; an error has it too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
