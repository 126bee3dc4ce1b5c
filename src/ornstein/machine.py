"""What the machine at hand can do, read from the machine and never from a timing."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil

import psutil
import torch

__all__ = ["can_compile", "device", "has_bf16", "memory"]


def device() -> str:
    """The device to train and sample on: "cuda" where there is one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@functools.cache
def memory(kind: str) -> int:
    """Bytes of memory of a device type, all of it."""
    if kind == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().total


@functools.cache
def has_bf16(kind: str) -> bool:
    """Whether a device type ("cpu", "cuda") multiplies matrices in bfloat16 in hardware."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return kind == "cpu" and bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("arm_bf16"))


@functools.cache
def can_compile(kind: str) -> bool:
    """Whether `torch.compile` finds what it needs for a device type: Triton for "cuda", a C++ compiler for "cpu"."""
    if kind == "cuda":
        return importlib.util.find_spec("triton") is not None
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))
