"""Going on from the weights of a finished run: other data, more classes, another size, or the same data for longer."""

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
from ornstein.networks import NETWORKS, Taken, transfer
from ornstein.settings import Settings
from ornstein.training.run import Run

__all__ = ["before", "begin", "fitting", "inherited", "source"]

DECIDED = ("shape", "classes", "conditions")  # by the data


def source(settings: Settings, network: nn.Module | None = None) -> NetworkDenoiser:
    """The model that a training starts from; `network` is of the user's own class, for such a model.

    Raises:
        FileNotFoundError: there is none any more.
        ValueError: a damaged one, or one of another class than the user's own.
    """
    if not os.path.exists(str(settings.init_from)):
        raise FileNotFoundError(f"init_from is {short_repr(settings.init_from)}; there is no such run or model's file")
    model = checkpoint.load(str(settings.init_from), network)
    if isinstance(model, Adopted):
        raise ValueError(f"init_from is {short_repr(settings.init_from)}, a model of another library, whose network is "
                         "not trained here; train it there, and adopt it again")
    return model


def inherited(settings: Settings, model: NetworkDenoiser, run: Settings | None, data: Any) -> Settings:
    """Settings with what must be as the model has it, so that its weights fit, wherever nothing else is asked for; the
    size of picture files too. `run` are the settings of the run that it is of."""
    fresh, facts = Settings(), describe(model)
    there = {"predicts": facts["predicts"]}
    if facts["schedule"] is not None:
        there |= {"schedule": facts["schedule"]["name"], "schedule_options": facts["schedule"]["options"]}
    if run is not None:
        there |= {"schedule": run.schedule, "schedule_options": run.schedule_options}
    if facts["network"] is not None and settings.network in ("auto", facts["network"]["name"]):
        name, options = facts["network"]["name"], facts["network"]["options"]
        # Defaults too: what suits the data would take their place.
        whole = {option: entry.default for option, entry in inspect.signature(NETWORKS[name]).parameters.items()}
        there |= {"network": name, "options": {option: value for option, value in {
            **whole, **options, **settings.options}.items() if option not in DECIDED}}
    if settings.size is None and model.data is not None and model.data.kind == "picture" and may_be_pictures(data):
        there |= model.data.reading
    wanted = settings.as_dict()
    return settings.replace(**{name: value for name, value in there.items()
                               if name in ("network", "options") or wanted[name] == getattr(fresh, name)})


def fitting(settings: Settings, model: NetworkDenoiser, run: Settings | None, spec: DataSpec) -> Settings:
    """Settings once the data are known: samples of the same shape keep the kind of linear guess that the network adds
    to. ValueError for data of another kind than the model's, of which no weight would be of use."""
    if len(model.shape) != len(spec.shape):
        kinds = {1: "vectors", 2: "traces", 3: "pictures", 4: "volumes"}
        there, here = (f"{kinds[len(shape)]} of {' x '.join(map(str, shape))}" for shape in (model.shape, spec.shape))
        raise ValueError(f"init_from is {settings.init_from}, a model of {there}, and data {spec.name!r} are {here}: "
                         "no weights fit; leave it out")
    same = run is not None and model.shape == spec.shape and settings.linear == Settings().linear
    return settings.replace(linear=run.linear) if run is not None and same else settings


def before(settings: Settings) -> Settings | None:
    """The settings of the run that a training starts from; None of a model's file."""
    return Run(str(settings.init_from)).settings() if Path(str(settings.init_from)).is_dir() else None


def begin(network: nn.Module, model: NetworkDenoiser, spec: DataSpec, where: object) -> str:
    """Fill a network with the weights of a model that fit, and say which do."""
    known = () if model.data is None else model.data.classes
    classes = [known.index(name) if name in known else -1 for name in spec.classes]
    taken = transfer(network, model.network.state_dict(), classes, (model.shape[1:], spec.shape[1:]))
    return _said(taken, [name for name, number in zip(spec.classes, classes, strict=True) if number < 0], where)


def _said(taken: Taken, new: list[str], where: object) -> str:
    whole = "all" if taken.weights == taken.of else f"{100 * taken.weights / taken.of:.0f} % of"
    text = f"starts from {where}: {whole} its {taken.of:,} weights"
    if taken.resized:
        text += f"; resized: {', '.join(taken.resized)}"
    if taken.missing:
        text += f"; begun anew, because their sizes differ: {', '.join(taken.missing)}"
    return text + (f"; classes that it did not know: {', '.join(new)}" if new else "")
