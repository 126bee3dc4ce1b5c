"""What every set of generated digits is judged by: a classifier, three distances and a forest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.svm import SVC

from ornstein import Dataset
from ornstein.evaluation.classifier import forest_auc
from ornstein.evaluation.distances import frechet, nearest

__all__ = ["CLASSES", "FOOTNOTES", "Drawn", "Judge", "heading", "labels_of", "line"]

CLASSES = 10
A_CLASS = 100  # generated digits of each class that the forest sees
SUBSETS = 3  # draws of those digits, over which the area under the curve is averaged

FOOTNOTES = """\
recognised  share of the rounded samples that the classifier gives the label they were drawn for
FD, raw FD  Fréchet distance of 64 pixels to the held-out digits over that of the training digits to them, on samples
            rounded to the 17 levels and before rounding; 2,000 samples give some 0.02 more than 10,000 do
AUC         of a forest that tells real from generated: 0.5 is indistinguishable, 1 is told apart always. Well below
            0.5 means copies: the forest has seen the twin of a held-back digit under the other label
nearest     median distance to the nearest training digit over the same of the held-out digits; below 1 is closer to
            the training digits than a new digit is
copies      share of the rounded samples that are exactly a training digit
cores       processor seconds a second of training; well below the threads, another process held the machine and the
            row is worth nothing
images/s    pictures seen in training over its whole wall clock, compilation and checkpoints included"""


@dataclass
class Drawn:
    """One row before it is judged: samples and what they cost.

    Args:
        name: of the row.
        samples: (N, 1, 8, 8) in [-1, 1], not rounded, as many of each class.
        labels: (N,) classes that the samples were drawn for.
        calls: network calls a sample.
        weights: numbers that were trained.
        images: pictures seen in training.
        seconds: wall clock of the training.
        cores: processor seconds a second of the training, which tells whether the machine was shared.
        drawing: wall clock of drawing all samples.
    """

    name: str
    samples: torch.Tensor
    labels: torch.Tensor
    calls: int = 0
    weights: int = 0
    images: int = 0
    seconds: float = 0.0
    cores: float = 0.0
    drawing: float = 0.0


def labels_of(count: int) -> torch.Tensor:
    """Classes of `count` samples, as many of each, in order."""
    return torch.arange(CLASSES).repeat_interleave(count // CLASSES)


class Judge:
    """Judges samples against the training and the held-out digits."""

    def __init__(self, data: Dataset) -> None:
        train, held = data.split()
        self.spec = data.spec
        self.train, self.held = (np.asarray(part.values, np.float64).reshape(len(part), -1) for part in (train, held))
        self.classifier = SVC(gamma=0.001, C=10).fit(self.train, train.labels)
        self.accuracy = float(self.classifier.score(self.held, held.labels))
        self.floor = frechet(self.held, self.train)
        self.unit = float(np.median(nearest(self.held, self.train)))

    def about(self) -> str:
        """One sentence on the yardsticks themselves."""
        held = forest_auc(self.train, self.held)
        return (f"{len(self.train)} training and {len(self.held)} held-out digits; the classifier recognises "
                f"{self.accuracy:.4f} of the held-out, the Fréchet floor is {self.floor:.2f}, a held-out digit is "
                f"{self.unit:.2f} from its nearest training digit, and the AUC of held-out digits is {held:.3f}")

    def __call__(self, drawn: Drawn) -> dict[str, float | int | str]:
        """All figures of one row, by name."""
        raw = (drawn.samples.double().flatten(1).numpy() + 1) * (self.spec.high - self.spec.low) / 2 + self.spec.low
        rounded = self.rounded(drawn.samples)
        labels = drawn.labels.numpy()
        distance = nearest(rounded, self.train)
        return {
            "row": drawn.name, "samples": len(raw), "calls": drawn.calls, "weights": drawn.weights,
            "images": drawn.images, "seconds": round(drawn.seconds, 2), "cores": round(drawn.cores, 2),
            "images_per_second": round(drawn.images / drawn.seconds, 1) if drawn.seconds else 0.0,
            "drawing": round(drawn.drawing, 2),
            "recognised": float((self.classifier.predict(rounded) == labels).mean()),
            "fd": self.distance(rounded), "fd_raw": self.distance(raw),
            "auc": float(np.mean([self._forest(rounded, labels, seed) for seed in range(SUBSETS)])),
            "nearest": float(np.median(distance)) / self.unit, "copies": float((distance == 0).mean()),
        }

    def rounded(self, samples: torch.Tensor) -> np.ndarray:
        """Samples in [-1, 1] at the data's own levels, a row each."""
        return self.spec.decode(samples).reshape(len(samples), -1).astype(np.float64)

    def distance(self, rows: np.ndarray) -> float:
        """Fréchet distance of pixels to the held-out digits, over that of the training digits to them."""
        return frechet(self.held, rows) / self.floor

    def _forest(self, rows: np.ndarray, labels: np.ndarray, seed: int) -> float:
        rng = np.random.default_rng(seed)
        pick = [rng.choice(np.flatnonzero(labels == label), A_CLASS, replace=False) for label in range(CLASSES)]
        return forest_auc(self.train, rows[np.concatenate(pick)], seed=seed)


# Name, width and format of each column; a figure of 0 that was never measured is a dash.
COLUMNS = (("row", 31, "s"), ("samples", 7, ",d"), ("calls", 5, "d"), ("weights", 9, ",d"), ("seconds", 7, ".1f"),
           ("cores", 5, ".2f"), ("images_per_second", 8, ",.0f"), ("recognised", 10, ".4f"), ("fd", 6, ".3f"),
           ("fd_raw", 6, ".3f"), ("auc", 5, ".3f"), ("nearest", 7, ".3f"), ("copies", 6, ".4f"), ("drawing", 7, ".1f"))
TITLES = {"images_per_second": "images/s", "fd": "FD", "fd_raw": "raw FD", "auc": "AUC", "drawing": "drawing"}
COSTS = ("calls", "weights", "seconds", "cores", "images_per_second", "drawing")


def heading() -> str:
    """The first line of the table."""
    return "  ".join(f"{TITLES.get(name, name):{'<' if kind == 's' else '>'}{wide}}" for name, wide, kind in COLUMNS)


def line(figures: dict[str, float | int | str]) -> str:
    """One row of the table."""
    cells = []
    for name, wide, kind in COLUMNS:
        text = "-" if name in COSTS and not figures[name] else format(figures[name], kind)
        cells.append(f"{text:{'<' if kind == 's' else '>'}{wide}}")
    return "  ".join(cells)
