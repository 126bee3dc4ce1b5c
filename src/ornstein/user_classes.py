"""The user's own classes, named on the command line as path.py:Class. A name is never taken from a file of a run."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path

from ornstein.diffusion.samplers.rule import Rule
from ornstein.diffusion.schedule import Schedule

__all__ = ["load_class", "load_sampler"]


def load_class(name: str, bases: tuple[type, ...] = (Rule, Schedule),
               description: str = "an ornstein.Rule or an ornstein.Schedule") -> type:
    """Run a file and return one of its classes.

    Args:
        name: path.py:Class.
        bases: the class must derive from one of these.
        description: of the bases, for messages.

    Raises:
        ValueError: a name of another form, or no such class in the file.
        FileNotFoundError: the file does not exist.
    """
    path, _, class_name = name.rpartition(":")
    spec = importlib.util.spec_from_file_location(f"own_{Path(path).stem}", path)
    if not path.endswith(".py") or spec is None or spec.loader is None:
        raise ValueError(f"{name!r} is not of the form path.py:Class")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; write path.py:Class with the path of your file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and typing look up the module of a class by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    loaded = getattr(module, class_name, None)
    if not inspect.isclass(loaded) or not issubclass(loaded, bases):
        raise ValueError(f"{path} has no class {class_name!r} that is {description}")
    return loaded


def load_sampler(name: str) -> str | Rule:
    """Return an instance of the user's own rule for path.py:Class, and any other name of a sampler as it is."""
    if ":" not in name:
        return name
    loaded = load_class(name)
    if not issubclass(loaded, Rule):
        raise ValueError(f"{name} is a {loaded.__mro__[1].__name__}; a sampler must be an ornstein.Rule")
    return loaded()
