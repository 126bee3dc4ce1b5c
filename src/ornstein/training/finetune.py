"""Training from the weights of a finished run: on other data, more classes, another size, or for longer."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from torch import nn

from ornstein import checkpoint
from ornstein.adoption.adopted import Adopted
from ornstein.arguments import short_repr
from ornstein.data import DataSpec, may_be_pictures
from ornstein.description import describe
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.networks import NETWORKS, Transferred, transfer
from ornstein.settings import Settings
from ornstein.training.run import Run

__all__ = ["inherit_linear", "inherit_settings", "load_source", "source_settings", "transfer_weights"]

FROM_DATA = ("shape", "classes", "conditions")  # options that follow from the data


def load_source(settings: Settings, network: nn.Module | None = None) -> NetworkDenoiser:
    """Load the model that a training starts from; `network` is an instance of the user's own class, if it has one.

    Raises:
        FileNotFoundError: the model is gone.
        ValueError: the model is damaged, or its network is of another class.
    """
    if not os.path.exists(str(settings.init_from)):
        raise FileNotFoundError(f"init_from is {short_repr(settings.init_from)}; there is no such run or model file")
    model = checkpoint.load(str(settings.init_from), network)
    if isinstance(model, Adopted):
        raise ValueError(f"init_from is {short_repr(settings.init_from)}, a model of another library, whose network is "
                         "not trained here; train it there and adopt it again")
    return model


def inherit_settings(settings: Settings, model: NetworkDenoiser, run: Settings | None, data: Any) -> Settings:
    """Settings that take from the model what its weights depend on, and the size of picture files, unless set
    otherwise; `run` are the settings of the model's run, if it has one."""
    defaults, description = Settings(), describe(model)
    inherited = {"predicts": description["predicts"]}
    if description["schedule"] is not None:
        inherited |= {"schedule": description["schedule"]["name"],
                      "schedule_options": description["schedule"]["options"]}
    if run is not None:
        inherited |= {"schedule": run.schedule, "schedule_options": run.schedule_options}
    if description["network"] is not None and settings.network in ("auto", description["network"]["name"]):
        name, options = description["network"]["name"], description["network"]["options"]
        # Include defaults, which would otherwise give way to what suits the data.
        everything = {option: entry.default for option, entry in inspect.signature(NETWORKS[name]).parameters.items()}
        inherited |= {"network": name, "options": {option: value for option, value in {
            **everything, **options, **settings.options}.items() if option not in FROM_DATA}}
    if settings.size is None and model.data is not None and model.data.kind == "picture" and may_be_pictures(data):
        inherited |= model.data.reading
    wanted = settings.as_dict()
    return settings.replace(**{name: value for name, value in inherited.items()
                               if name in ("network", "options") or wanted[name] == getattr(defaults, name)})


def inherit_linear(settings: Settings, model: NetworkDenoiser, run: Settings | None, spec: DataSpec) -> Settings:
    """Settings with the linear guess of the model's run if the samples have the same shape; ValueError for data of
    another kind than the model's, for which none of its weights fit."""
    if len(model.shape) != len(spec.shape):
        kinds = {1: "vectors", 2: "traces", 3: "pictures", 4: "volumes"}
        source, target = (f"{kinds[len(shape)]} of {' x '.join(map(str, shape))}"
                          for shape in (model.shape, spec.shape))
        raise ValueError(f"init_from is {settings.init_from}, a model of {source}, and data {spec.name!r} are "
                         f"{target}: no weights fit; leave it out")
    same = run is not None and model.shape == spec.shape and settings.linear == Settings().linear
    return settings.replace(linear=run.linear) if run is not None and same else settings


def source_settings(settings: Settings) -> Settings | None:
    """The settings of the run that a training starts from; None for a model file."""
    return Run(str(settings.init_from)).settings() if Path(str(settings.init_from)).is_dir() else None


def transfer_weights(network: nn.Module, model: NetworkDenoiser, spec: DataSpec, source: object) -> str:
    """Copy the weights of a model that fit into a network; return a summary of which do."""
    known = () if model.data is None else model.data.classes
    classes = [known.index(name) if name in known else -1 for name in spec.classes]
    taken = transfer(network, model.network.state_dict(), classes, (model.shape[1:], spec.shape[1:]))
    return _summary(taken, [name for name, number in zip(spec.classes, classes, strict=True) if number < 0], source)


def _summary(taken: Transferred, new_classes: list[str], source: object) -> str:
    share = "all" if taken.weights == taken.total else f"{100 * taken.weights / taken.total:.0f} % of"
    text = f"starts from {source}: {share} its {taken.total:,} weights"
    if taken.resized:
        text += f"; resized: {', '.join(taken.resized)}"
    if taken.missing:
        text += f"; initialised anew, because their sizes differ: {', '.join(taken.missing)}"
    return text + (f"; classes that are new to it: {', '.join(new_classes)}" if new_classes else "")
