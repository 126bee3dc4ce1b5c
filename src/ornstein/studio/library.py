"""The models that the studio serves: the runs in a folder and those of its own trainings."""

from __future__ import annotations

import itertools
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
from ornstein.evaluation.report_files import FIGURES
from ornstein.machine import default_device
from ornstein.studio.errors import Refused, one_line
from ornstein.training.run import Run

__all__ = ["REPORT", "Library", "Model"]

Version = tuple[Path, int, int]  # of a model's file: path, time of writing, inode
MAX_LOADED = 4  # models in memory
REPORT = "report"  # the folder of the report in a run
SEARCH_DEPTH = 2  # levels of folders that are searched for runs


@dataclass(frozen=True)
class Model:
    """A loaded model."""

    name: str
    path: Path
    denoiser: NetworkDenoiser
    spec: DataSpec
    digest: str


class Library:
    """Finds runs by name, and loads each model on first use.

    Args:
        source: a run, a model's file or a folder of runs; None for none.
        trained: returns the folders of the studio's own trainings by name.
    """

    def __init__(self, source: Path | None, trained: Callable[[], Mapping[str, Path]]) -> None:
        self.source, self.trained = source, trained
        self._lock = threading.Lock()
        self._loaded: OrderedDict[Version, Model] = OrderedDict()
        self._cards = dict[Version, dict[str, Any]]()

    def paths(self) -> dict[str, Path]:
        """The runs with a model and the models' files, by name."""
        paths = dict[str, Path]()
        for name, path in [*self._in_source(), *self.trained().items()]:
            if _model_file(path).is_file():
                names = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
                paths[next(name for name in names if name not in paths)] = path
        return paths

    def _in_source(self) -> list[tuple[str, Path]]:
        if self.source is None:
            return []
        source = self.source.absolute()
        if _model_file(source).is_file():
            return [(source.stem if source.is_file() else source.name, source)]
        files = sorted(path for depth in range(1, SEARCH_DEPTH + 1) for path in source.glob("*/" * depth + MODEL))
        return [(str(file.parent.relative_to(source)), file.parent) for file in files]

    def find(self, name: str | None) -> tuple[str, Path]:
        """The name and path of a model, by default the first one."""
        paths = self.paths()
        if name is None and not paths:
            raise Refused(422, "there is no model yet; train one first", "model")
        if name is None:
            name = next(iter(paths))
        if name not in paths:
            raise Refused(404, f"there is no model {name!r}; GET /api/models lists all", "model")
        return name, paths[name]

    def get(self, name: str | None) -> Model:
        """Load a model, by default the first one."""
        name, path = self.find(name)
        key = _version(path)
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
                return self._loaded[key]
            try:
                denoiser = load(path).to(default_device())
            except (OSError, ValueError) as error:
                raise Refused(409, f"the model {name!r} cannot be loaded: {one_line(error)}", "model") from None
            if denoiser.data is None:
                raise Refused(409, f"the model {name!r} cannot be served, because its file does not describe its data",
                              "model")
            model = Model(name, path, denoiser, denoiser.data, digest(path))
            self._loaded[key] = model
            while len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
            return model

    def card(self, name: str) -> dict[str, Any]:
        """The description of a model, which is loaded once for it."""
        name, path = self.find(name)
        if (key := _version(path)) not in self._cards:
            self._cards[key] = self._card(self.get(name))
        return self._cards[key] | {"name": name, "evaluated": _report_file(path) is not None, "error": None}

    def _card(self, model: Model) -> dict[str, Any]:
        spec, denoiser = model.spec, model.denoiser
        is_picture = spec.kind == "picture"
        settings = Run(model.path).settings() if model.path.is_dir() else None
        return {
            "kind": spec.kind, "shape": list(spec.shape), "data": spec.name,
            "width": spec.shape[2] if is_picture else None, "height": spec.shape[1] if is_picture else None,
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
        """The path of a run's report.json."""
        name, path = self.find(name)
        if (file := _report_file(path)) is None:
            raise Refused(404, f"the model {name!r} has no report yet; make one with POST /api/evaluations or with "
                               f"ornstein evaluate and --out {path.name}/{REPORT}")
        return file


def _model_file(path: Path) -> Path:
    return path / MODEL if path.is_dir() else path


def _version(path: Path) -> Version:
    state = _model_file(path).stat()
    return path, state.st_mtime_ns, state.st_ino


def _report_file(path: Path) -> Path | None:
    return next((file for file in (path / REPORT / FIGURES, path / FIGURES) if file.is_file()), None)
