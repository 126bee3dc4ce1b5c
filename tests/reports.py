"""Reports as an evaluation makes them, for tests of what is said and shown of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from ornstein.evaluation.report import Curve, Interval, Likelihood, Measure, Memorisation, Pair, Report, Restoration


def report(name: str = "digits", worse: float = 1.0, seed: int = 0) -> Report:
    """A report as an evaluation makes one; `worse` moves its distances and losses away from the best."""
    rng = np.random.default_rng(seed)

    def image(*size: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))

    def curve(name: str, value: np.ndarray, share: float) -> Curve:
        return Curve(name, tuple(where.tolist()), tuple(value.tolist()), tuple((share * value).tolist()))

    where = np.linspace(-11, 11, 23)
    loss = worse / (1 + np.exp(where / 2.2)) + 0.003
    auc = 0.5 + 0.1 * worse
    measures = [
        Measure("frechet", "Fréchet distance", "random convolutions, 512 values",
                Interval(1.312 * worse, 0.974 * worse, 0.81 * worse, 1.14 * worse), Interval(1.244, 0.86, 0.71, 1.02),
                0.0, 297, 1000),
        Measure("frechet", "Fréchet distance", "pixels", Interval(0.000942, 0.000374, 0.00031, 0.00044),
                Interval(0.0009, 0.00025, 0.00021, 0.00029), 0.0, 297, 1000),
        Measure("kernel", "Kernel distance", "pixels", Interval(6.1e-6, None, 2.1e-6, 1.01e-5),
                Interval(4e-7, None, -2.1e-6, 3.1e-6), 0.0, 297, 1000),
        Measure("recall", "Recall", "pixels, 5 neighbours", Interval(0.902, None, 0.865, 0.93),
                Interval(0.925, None, 0.893, 0.951), 1.0, 297, 1000),
        Measure("auc", "Told apart by a forest (AUC)", "", Interval(auc, None, auc - 0.028, auc + 0.031),
                Interval(0.4931, None, 0.462, 0.527), 0.5, 297, 1000),
        Measure("accuracy", "Class asked for", "logistic regression", Interval(0.9931, None, 0.988, 0.9962), None, 1.0,
                297, 1000),
    ]
    nats = -151.4 - 20 * (worse - 1)
    likelihood = [
        Likelihood("bound", "Variational bound", "256 steps, uniform in log SNR", nats, 1.31, 297, -nats / 44.36,
                   0.0295, (("reconstruction", -21.84, 0.2), ("prior", 0.0021, 0.0001),
                            ("diffusion", -nats - 21.8421, 1.25))),
        Likelihood("gaussian", "One Gaussian", "", -196.9, 0.8, 297, 4.44, 0.018)]
    pairs = tuple(Pair(10 * place + 3, 77 * place + 12, 0.41 + 0.03 * place, "flipped", name)
                  for place, name in enumerate(("", "seven/1.png", "seven/2.png")))
    pictures = {"samples": image(120, 300), "real": image(120, 300), "restored-0": image(120, 300)}
    for place in range(2):  # the third pair has none
        pictures |= {f"pair-{place}-sample": image(8, 8), f"pair-{place}-training": image(8, 8)}
    return Report(
        name, "2026-11-25T02:40:11+00:00", "0.1.0",
        data={"name": "digits", "shape": [1, 8, 8], "kind": "picture", "classes": list("0123456789"),
              "training": 1500, "held_out": 297},
        model={"weights": 251_329, "sha256": "10950724278b42f8" * 4, "network": "unet", "minutes": 1.0,
               "settings": {"batch": 128, "learning_rate": 0.002}},
        drawn={"count": 1000, "sampler": "exponential", "nfe": 20, "seed": 12345, "seconds": 1.62,
               "times": np.linspace(1, 0, 21).tolist()},
        measures=measures, likelihood=likelihood, steps=curve("bound", 18 * np.exp(-where**2 / 14) + 0.02, 0.05),
        levels=[curve("training", 0.97 * loss, 0.01), curve("held out", loss, 0.02),
                curve("lowest possible", 0.9 / (1 + np.exp(where / 2.2)) + 0.0027, 0.0)],
        memorisation=Memorisation(0.013, 0.0101, 0.62, 0.31, 0.01, False, 0.0, 0.97, 0.93, pairs),
        restorations=[Restoration(
            Interval(0.452, None, 0.431, 0.474), Interval(0.871, None, 0.853, 0.887),
            tuple(1 + 0.8 * abs(place / 9.5 - 1) ** 4 for place in range(20)), (0.08,) * 20,
            Interval(0.1123, None, 0.1042, 0.1204), Interval(0.283, None, 0.257, 0.307),
            "mask=0.5", 0.0, 100, 39, 50, 32, Interval(0.181, None, 0.168, 0.194), Interval(0.382, None, 0.353, 0.41))],
        seconds={"drawing": 1.62, "distances": 75.8}, notes=["297 held-out pictures are few."], pictures=pictures)


def words(*args, **options) -> Report:
    """A report for tests of what a page says: without its curves, which take long to draw."""
    one = report(*args, **options)
    one.levels, one.steps, one.restorations = [], None, []
    return one


def bare(name: str = "nothing") -> Report:
    return Report(name, "2026-11-25", "0.1.0", {}, {}, {})


def alike(real: int = 297) -> Report:
    """A report of which no figure is apart from its floor, on so many real rows."""
    one = words()
    one.measures = [replace(measure, real=real, found=measure.floor) for measure in one.measures if measure.floor]
    return one
