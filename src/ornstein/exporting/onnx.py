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
from ornstein.diffusion.denoiser import Denoiser, DenoiserWrapper, NetworkDenoiser
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers.loop import choose_walk
from ornstein.exporting.graph import CALL, DenoiserGraph, SamplerGraph, VelocityGraph, family, guided_denoiser
from ornstein.exporting.times import sampler_name
from ornstein.isolation import isolated

__all__ = ["KEY", "check_target", "export"]

KEY = "ornstein"  # of the metadata of a file
OPSET = 20  # supported by every onnxruntime of the extra
ROWS = 3  # of the traced example, as 0 and 1 would be taken for constants
REQUIRED = ("onnx", "onnxscript", "onnxruntime")
MAX_BYTES = 2**31 - 2**20  # of weights, as a file of Protocol Buffers holds 2 GiB


def check_target(path: Path) -> None:
    """Raise if an ONNX file cannot be written to a path, or a package for writing it is missing."""
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"path is {path}; it must end in .onnx")
    if missing := [name for name in REQUIRED if find_spec(name) is None]:
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
    bytes of pictures, as in `ornstein sample --out FILE.npz`, or in [-1, 1] if the model has no description of its
    data. The batch size is free and numbers are float32; the graph does not check its inputs. The metadata of the file
    describe it, as JSON under the key "ornstein".

    Args:
        model: a model that was trained or loaded.
        path: of the file, which must end in .onnx.
        nfe: network calls per sample, with the choice of `ornstein.tune` for this number, else as sampler "auto".
        guidance: scale of classifier-free guidance, with nfe; None and 1 are without guidance.

    Raises:
        TypeError: not a denoiser, or a denoiser around another one.
        ValueError: another suffix; guidance without nfe or without a condition; without nfe a schedule whose signal and
            noise do not follow from the log SNR, or a model of another library or of a class of your own; a
            network that ONNX cannot express, with the operation; weights of more than 2 GiB.
        ModuleNotFoundError: the extra "onnx" is not installed.
        OSError: the file cannot be written.
    """
    if not isinstance(model, Denoiser) or isinstance(model, DenoiserWrapper):
        raise TypeError(f"model is a {type(model).__name__}; only a denoiser itself can be exported"
                        + (" (guidance is an option of export)" if isinstance(model, DenoiserWrapper) else ""))
    if isinstance(network := getattr(model, "network", None), Unet | OnnxNetwork):
        raise ValueError("the model is a " + (
            "graph already, in the file that it was adopted from" if isinstance(network, OnnxNetwork) else
            "UNet2DModel of diffusers, whose code differs from 64 rows on, so that no graph takes any number of rows; "
            "sample it with ornstein sample"))
    path = Path(path)
    check_target(path)
    with torch.device("cpu"):
        exported = copy.deepcopy(model).to("cpu", torch.float32).eval()
        size = sum(value.nbytes for value in exported.state_dict().values())
        if size > MAX_BYTES:
            raise ValueError(f"the model has {size / 2**30:.1f} GiB of weights; an ONNX file holds at most 2 GiB")
        graph, facts = (_denoiser_graph(exported, guidance) if nfe is None else
                        _sampler_graph(exported, nfe, guidance))
    version = importlib.metadata.version(KEY)
    data = getattr(exported, "data", None)
    facts |= {"shape": list(exported.shape), "data": None if data is None else data.as_dict(), "ornstein": version}
    if isinstance(exported, NetworkDenoiser):
        facts |= {"predicts": exported.predicts, "log_snr_range": list(exported.log_snr_range)}
    graph.metadata_props[KEY] = json.dumps(facts)
    graph.producer_name, graph.producer_version = KEY, version
    from onnxscript import ir

    with files.replacing(path) as temporary:
        ir.save(graph, temporary)


def _is_standard(model: Denoiser) -> TypeGuard[NetworkDenoiser]:
    """Whether a model computes its estimate as `NetworkDenoiser` does."""
    return isinstance(model, NetworkDenoiser) and all(
        getattr(type(model), name) is getattr(NetworkDenoiser, name) for name in ("forward", "velocity"))


def _denoiser_graph(model: Denoiser, guidance: float | None) -> tuple[Any, dict[str, Any]]:
    """The graph of the denoiser, and its metadata."""
    if guidance is not None:
        raise ValueError(f"guidance is {short_repr(guidance)}, but nfe is not given; give it, or guide yourself: call "
                         "the graph a second time with class -1 (or a condition of NaN)")
    if not _is_standard(model):
        raise ValueError(f"nfe is not given, and {type(model).__name__} is not a network of the log SNR; give it, "
                         "for a graph of the whole sampler")
    log_snr = torch.linspace(-2, 2, ROWS, dtype=torch.float32)
    inputs = {"z": _example_latents(model), "log_snr": log_snr, **_example_condition(model)}
    outputs = ["x", "eps", "v"]
    return _trace(DenoiserGraph(model), inputs, outputs), {
        "kind": "denoiser", "inputs": list(inputs), "outputs": outputs, "latents": family(model.schedule)}


def _sampler_graph(model: Denoiser, nfe: int, guidance: float | None) -> tuple[Any, dict[str, Any]]:
    """The graph of the sampler, and its metadata."""
    scale = 1.0 if guidance is None else require_float("guidance", guidance)
    condition = _example_condition(model)
    if scale != 1 and not condition:
        raise ValueError(f"guidance is {scale:g}, but this model has no classes or conditions to guide towards; "
                         "leave it out")
    rule, times, choice = choose_walk(model, "auto", nfe, guidance=scale)
    damping = 0.0 if choice is None else choice.damping
    inputs = {"z": _example_latents(model), **condition}
    traced = None if _is_standard(model) else guided_denoiser(model, scale, damping)
    sampler = SamplerGraph(model.schedule, getattr(model, "data", None), rule, times, traced)
    sampler(*inputs.values())  # fills the schedule's cache
    graph = _trace(sampler, inputs, ["samples"], free_batch=traced is not None)
    if _is_standard(model):
        level = {name: torch.tensor(0.5, dtype=torch.float32) for name in ("signal", "noise", "log_snr")}
        velocity = VelocityGraph(model, scale, damping)
        _join(graph, _trace(velocity, {"z": inputs["z"], **level, **condition}, ["v"]))
    return graph, {
        "kind": "sampler", "inputs": list(inputs), "outputs": ["samples"], "nfe": nfe, "sampler": sampler_name(rule),
        "tuned": choice is not None, "times": times.tolist(), "guidance": scale, "damping": damping,
        "z_std": float(model.schedule.level(as_time(1.0)).radius)}


def _example_latents(model: Denoiser) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randn(ROWS, *model.shape, generator=generator, dtype=torch.float32)


def _example_condition(model: Denoiser) -> dict[str, Tensor]:
    """An example of the condition by the name of the input; empty for an unconditional model."""
    if not isinstance(model, NetworkDenoiser):
        return {}
    conditions = model.conditions
    if conditions.kind == "classes":
        return {"class": torch.zeros(ROWS, dtype=torch.int64)}
    if conditions.kind != "vectors":
        return {}
    mean = torch.zeros(conditions.count, dtype=torch.float32) if model.condition_mean is None else model.condition_mean
    return {"condition": mean.repeat(ROWS, 1)}


def _trace(module: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str], free_batch: bool = True) -> Any:
    """Trace a module to a graph (`onnx_ir.Model`) on an example of each input, whose first axis is free.

    Operations that work for any number of rows are traced four times as fast without `free_batch`; the axis is freed
    afterwards.
    """
    from onnxscript import ir

    example, batch = tuple(inputs.values()), torch.export.Dim("batch")
    shapes = tuple({0: batch} if value.ndim and free_batch else {} for value in example)
    try:
        with _quiet():
            # Not left to the exporter, which falls back to other methods on failure, and fixes the batch size.
            program = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
            traced: Any = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=list(inputs), output_names=outputs,
                verbose=False, custom_translation_table={torch.ops.aten.hypot.default: _hypot})
    except Exception as error:  # a dozen types, which all mean the same
        raise ValueError(f"the network cannot be exported as an ONNX graph: {_reason(error)}") from error
    graph = traced.model
    interface = [*graph.graph.inputs, *graph.graph.outputs]
    for part in (*graph.graph, *graph.graph.inputs, *graph.graph.initializers.values()):
        part.metadata_props.clear()  # paths of the traced code
    for value in (value for node in graph.graph for value in node.outputs):
        value.metadata_props.clear()
        if value not in interface:
            value.shape = None  # it would be that of the example
    for value in interface:
        if value.shape is not None and len(value.shape):
            value.shape = ir.Shape(["batch", *list(value.shape)[1:]])
    return graph


def _join(sampler: Any, velocity: Any) -> None:
    """Define the calls in the graph of a sampler by the graph of the velocity, as a function of ONNX.

    A function holds no weights, so they become inputs of every call.
    """
    from onnxscript import ir

    body, weights = velocity.graph, []
    for name, value in list(body.initializers.items()):
        weight = ir.Value(name=f"velocity.{name}", shape=value.shape, type=value.type, const_value=value.const_value)
        sampler.graph.initializers[weight.name] = weight
        weights.append(weight)
        del body.initializers[name]
        value.const_value = None
        body.inputs.append(value)
    domain, name = CALL.split("::")
    function = ir.Function(domain, name, "", graph=body, attributes=[])
    sampler.functions.update({**velocity.functions, function.identifier(): function})
    sampler.opset_imports[domain] = 1
    for node in sampler.graph:
        if node.domain == domain:
            first = len(node.inputs)
            node.resize_inputs(first + len(weights))
            for index, weight in enumerate(weights, first):
                node.replace_input_with(index, weight)


def _hypot(a: Any, b: Any) -> Any:
    """`torch.hypot` in operations of ONNX, as the exporter does not support it."""
    import onnxscript

    op: Any = onnxscript.opset20
    large, small = op.Max(op.Abs(a), op.Abs(b)), op.Min(op.Abs(a), op.Abs(b))
    tiny, one = (op.CastLike(op.Constant(value_float=value), large) for value in (1e-37, 1.0))
    ratio = op.Div(small, op.Max(large, tiny))
    return op.Mul(large, op.Sqrt(op.Add(op.Mul(ratio, ratio), one)))


def _reason(error: BaseException) -> str:
    """The reason why a network cannot be exported, on one line, from the many of torch."""
    causes, cause = list[BaseException](), error
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(map(str, causes))
    if operation := re.search(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'", text):
        return f"ONNX has no operation for {operation[1]}; use others, or leave it out"
    if "Constraints violated" in text:
        return "its code fixes the number of rows, as in view(3, 4) or len(y); write -1 or y.shape[0] instead"
    if "data-dependent" in text:
        lines = re.findall(r"File .*, line \d+, in \w+\n +(.+)", text)
        return ("its code branches on the values of a tensor" + (f", in `{shorten(lines[-1])}`" if lines else "")
                + "; use torch.where instead of if")
    return shorten(" ".join(str(causes[-1]).split()) or type(causes[-1]).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs of tracing, which errors repeat."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
