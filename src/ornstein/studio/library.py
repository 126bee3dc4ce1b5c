"""The models that the studio serves: the runs in a folder, and those of its own trainings."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ornstein.checkpoint import MODEL, digest, load
from ornstein.data import DataSpec
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.samplers.loop import NFE
from ornstein.evaluation.written import FIGURES
from ornstein.machine import default_device
from ornstein.studio.refusal import Refused, sentence
from ornstein.training.run import Run

__all__ = ["REPORT", "Library", "Model"]

Version = tuple[Path, int, int]  # of a model's file: where it is, when it was written, and which file it is
LOADED = 4  # models in memory
REPORT = "report"  # folder of it, in the run
DEEP = 2  # folders below the one that is named in which runs are found


@dataclass(frozen=True)
class Model:
    """A model that is loaded."""

    name: str
    path: Path
    denoiser: NetworkDenoiser
    spec: DataSpec
    digest: str


class Library:
    """Finds runs by name, and loads a model when it is first asked for.

    Args:
        place: a run, a model's file or a folder of runs; None for none.
        own: from the names of the studio's own trainings to their folders.
    """

    def __init__(self, place: Path | None, own: Callable[[], Mapping[str, Path]]) -> None:
        self.place, self.own = place, own
        self._lock = threading.Lock()
        self._loaded: OrderedDict[Version, Model] = OrderedDict()
        self._cards = dict[Version, dict[str, Any]]()

    def paths(self) -> dict[str, Path]:
        """Runs and files with a model, by name."""
        found = dict[str, Path]()
        for name, path in [*self._outside(), *self.own().items()]:
            if _file(path).is_file():
                found[next(one for one in _numbered(name) if one not in found)] = path
        return found

    def _outside(self) -> list[tuple[str, Path]]:
        if self.place is None:
            return []
        place = self.place.absolute()
        if _file(place).is_file():
            return [(place.stem if place.is_file() else place.name, place)]
        files = sorted(path for deep in range(1, DEEP + 1) for path in place.glob("*/" * deep + MODEL))
        return [(str(file.parent.relative_to(place)), file.parent) for file in files]

    def find(self, name: str | None) -> tuple[str, Path]:
        """A run by its name, or the first one."""
        paths = self.paths()
        if name is None and not paths:
            raise Refused(422, "there is no model yet; train one first", "model")
        if name is None:
            name = next(iter(paths))
        if name not in paths:
            raise Refused(404, f"there is no model {name!r}; GET /api/models lists all", "model")
        return name, paths[name]

    def get(self, name: str | None) -> Model:
        """A model, loaded."""
        name, path = self.find(name)
        key = _version(path)
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
                return self._loaded[key]
            try:
                denoiser = load(path).to(default_device())
            except (OSError, ValueError) as error:
                raise Refused(409, f"the model {name!r} cannot be loaded: {sentence(error)}", "model") from None
            if denoiser.data is None:
                raise Refused(409, f"the model {name!r} says nothing of its data, and cannot be served", "model")
            model = Model(name, path, denoiser, denoiser.data, digest(path))
            self._loaded[key] = model
            while len(self._loaded) > LOADED:
                self._loaded.popitem(last=False)
            return model

    def card(self, name: str) -> dict[str, Any]:
        """What is known of a model, for the page and for programs; it is loaded for that once."""
        name, path = self.find(name)
        if (key := _version(path)) not in self._cards:
            self._cards[key] = self._card(self.get(name))
        return self._cards[key] | {"name": name, "evaluated": _report(path) is not None, "error": None}

    def _card(self, model: Model) -> dict[str, Any]:
        spec, denoiser = model.spec, model.denoiser
        picture = spec.kind == "picture"
        settings = Run(model.path).settings() if model.path.is_dir() else None
        return {
            "kind": spec.kind, "shape": list(spec.shape), "data": spec.name,
            "width": spec.shape[2] if picture else None, "height": spec.shape[1] if picture else None,
            "mode": spec.mode, "classes": [spec.classes[number] for number in spec.drawn],
            "conditions": list(spec.conditions), "guidance": bool(spec.classes or spec.conditions),
            "calls": NFE, "digest": model.digest,
            "tuned": [{"nfe": choice.nfe, "guidance": choice.guidance, "sampler": choice.sampler}
                      for choice in denoiser.tuned.values()],
            "card": {"weights": sum(value.numel() for value in denoiser.network.parameters()),
                     "network": type(denoiser.network).__name__, "schedule": type(denoiser.schedule).__name__,
                     "predicts": denoiser.predicts, "metrics": dict(denoiser.metrics),
                     "settings": None if settings is None else {
                         name: value for name, value in settings.as_dict().items() if name != "data_path"}},
        }

    def report(self, name: str) -> Path:
        """The report.json of a run."""
        name, path = self.find(name)
        if (file := _report(path)) is None:
            raise Refused(404, f"the model {name!r} has no report yet; POST /api/evaluations makes one, as does "
                               f"ornstein evaluate with --out {path.name}/{REPORT}")
        return file


def _file(path: Path) -> Path:
    return path / MODEL if path.is_dir() else path


def _version(path: Path) -> Version:
    state = _file(path).stat()
    return path, state.st_mtime_ns, state.st_ino


def _report(path: Path) -> Path | None:
    return next((file for file in (path / REPORT / FIGURES, path / FIGURES) if file.is_file()), None)


def _numbered(name: str) -> Any:
    yield name
    number = 2
    while True:
        yield f"{name} {number}"
        number += 1
