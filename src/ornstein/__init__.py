"""Ornstein: diffusion models on your own data, with every formula of the chapter as a tested object."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

__version__ = "0.3.0"

# The stub beside this file lists the public names; a module is imported when its name is first used.
_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
_MODULES = {entry.name: node.module for node in _STUB.body if isinstance(node, ast.ImportFrom) and node.module
            for entry in node.names}

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'ornstein' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
