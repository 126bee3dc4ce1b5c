"""What tests of adoption share: a small pipeline of diffusers, and networks that know the law of their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

MEAN, VARIANCE = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([0.5, 0.1], dtype=torch.float64)


def clean(x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """E[data | x] for x = signal data + noise eps and Gaussian data; signal and noise (B,)."""
    signal, noise = signal[:, None], noise[:, None]
    return MEAN + signal * VARIANCE / (signal**2 * VARIANCE + noise**2) * (x - signal * MEAN)


def unet(**options: Any) -> Any:
    """A UNet2DModel of 8 x 8 pixels with random weights, whose answers are of the size of those of a trained one."""
    import diffusers

    torch.manual_seed(0)
    made = diffusers.UNet2DModel(**{
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16), "layers_per_block": 1,
        "norm_num_groups": 4, "attention_head_dim": 8, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D")} | options).eval()
    return made.requires_grad_(False)


def pipeline(folder: Path, scheduler: str = "DDPMScheduler", options: dict[str, Any] | None = None,
             **network: Any) -> Path:
    """The folder of a pipeline of diffusers."""
    import diffusers

    diffusers.DDPMPipeline(unet(**network), getattr(diffusers, scheduler)(**(options or {}))).save_pretrained(folder)
    return folder


def graph(path: Path, rank: int = 1, batch: object = "batch", shape: tuple[int, ...] = (2, 3)) -> Path:
    """An ONNX graph of 0.5 x + time, by names of its own; the time is a number, or one for each row."""
    onnx = pytest.importorskip("onnx")
    kind, helper = onnx.TensorProto.FLOAT, onnx.helper
    nodes = [helper.make_node("Mul", ["sample", "half"], ["less"])]
    if rank:
        nodes.append(helper.make_node("Reshape", ["timestep", "column"], ["t"]))
    nodes.append(helper.make_node("Add", ["less", "t" if rank else "timestep"], ["out"]))
    one = helper.make_graph(nodes, "g", [
        helper.make_tensor_value_info("timestep", kind, [batch] * rank),
        helper.make_tensor_value_info("sample", kind, [batch, *shape])], [
        helper.make_tensor_value_info("out", kind, [batch, *shape])], [
        helper.make_tensor("half", kind, [], [0.5]),
        helper.make_tensor("column", onnx.TensorProto.INT64, [1 + len(shape)], [-1, *[1] * len(shape)])])
    model = helper.make_model(one, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path
