"""Classes of the user's own, named on the command line as path.py:Class. Never read from a file of a run."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path

from ornstein.diffusion.samplers.rule import Rule
from ornstein.diffusion.schedule import Schedule

__all__ = ["find_class", "rule"]


def find_class(place: str, bases: tuple[type, ...] = (Rule, Schedule),
               what: str = "an ornstein.Rule or an ornstein.Schedule") -> type:
    """The class that path.py:Class names; the file is run.

    Args:
        place: of the class.
        bases: it must be one of these.
        what: they are called in a message.

    Raises:
        ValueError: a place of another form, or no such class in the file.
        FileNotFoundError: no such file.
    """
    path, _, name = place.rpartition(":")
    spec = importlib.util.spec_from_file_location(f"own_{Path(path).stem}", path)
    if not path.endswith(".py") or spec is None or spec.loader is None:
        raise ValueError(f"{place!r} is not of the form path.py:Class")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; write path.py:Class with the path of your file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and typing look a class's module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    kind = getattr(module, name, None)
    if not inspect.isclass(kind) or not issubclass(kind, bases):
        raise ValueError(f"{path} has no class {name!r} that is {what}")
    return kind


def rule(name: str) -> str | Rule:
    """A sampler as the command line names it: a rule of the user's own if it has the form path.py:Class."""
    if ":" not in name:
        return name
    kind = find_class(name)
    if not issubclass(kind, Rule):
        raise ValueError(f"{name} is a {kind.__mro__[1].__name__}; a sampler must be an ornstein.Rule")
    return kind()
