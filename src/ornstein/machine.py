"""What this machine can do, read from its properties and never from timings."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil

import psutil
import torch

__all__ = ["can_compile", "default_device", "has_bf16", "total_memory"]


def default_device() -> str:
    """The device to train and sample on: "cuda" if available, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@functools.cache
def total_memory(device_type: str) -> int:
    """Total memory of a device type in bytes."""
    if device_type == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().total


@functools.cache
def has_bf16(device_type: str) -> bool:
    """Whether a device type ("cpu", "cuda") multiplies matrices in bfloat16 in hardware."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device_type == "cpu" and any(features.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


@functools.cache
def can_compile(device_type: str) -> bool:
    """Whether `torch.compile` works for a device type: "cuda" needs Triton, "cpu" a C++ compiler."""
    if device_type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))
