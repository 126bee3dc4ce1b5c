"""The command-line app, and the options and checks that commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from ornstein import __version__

__all__ = ["Data", "Out", "Run", "Sampler", "Seed", "TrainedOn", "app", "check_memory", "flags"]

# Arguments that the library's messages name without dashes.
FLAGS = "nfe|steps|tolerance|guidance|condition|sampler|seed|label|operator|noise|strength|count"

app = App(
    name="ornstein", version=__version__, version_flags=["--version"],
    help="Train a diffusion model on your own pictures or arrays, draw new samples, and measure how good they are.",
    suppress_keyboard_interrupt=False,  # `main` handles it
)
Data = Annotated[str, Parameter(
    name="DATA", help="digits, moons, mixture; a folder of pictures, or several picture files; .npy, .npz, .csv, "
                      ".parquet or .tar files; or hf:NAME.")]


def _path(_: type, tokens: Sequence[Any]) -> Path:
    if not tokens[0].value:
        raise ValueError("it is empty; name a file or a folder, '.' for this one")
    return Path(tokens[0].value)


Out = Annotated[Path, Parameter(converter=_path)]
Run = Annotated[Path, Parameter(help="Folder of a run, or a model.safetensors file.", converter=_path)]
TrainedOn = Annotated[str | None, Parameter(help="Where the training data are now, if they have moved.")]
Seed = Annotated[int, Parameter(help="Seed of all randomness, from 0 to 2^64 - 1.")]
Sampler = Annotated[str, Parameter(help="A name from `ornstein list samplers`, or path.py:Class for your own rule.")]


@contextmanager
def flags() -> Generator[None, None, None]:
    """Turn the names of arguments at the start of the library's error messages into flags."""
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(
            rf"(?:^|(?<=class with ))((?:nfe|tolerance) and )?({FLAGS})\b",
            lambda match: f"--{match[0].replace(' and ', ' and --')}", str(error))) from None


def check_memory(count: int, shape: tuple[int, ...], samples: int = 1) -> None:
    """Refuse to draw more than fits in memory: `count` draws for each of `samples` inputs."""
    # Ten float32 for every value: the latent, previous estimates of a rule, and the conversion to the data's units.
    from ornstein.machine import total_memory

    needed, available = 40 * samples * count * math.prod(shape), total_memory("cpu")
    if needed > available:
        fitting = count * available // (2 * needed)
        remedy = (f"draw {max(1, fitting):,} at a time, each with another --seed" if fitting or samples == 1 else
                  f"give fewer than the {samples:,} samples of INPUT at a time")
        inputs = f" for each of {samples:,}" * (samples > 1)
        raise ValueError(f"--count is {count}; so many samples of shape {shape}{inputs} need {needed / 2**30:,.0f} GiB "
                         f"of memory, and this machine has {available / 2**30:,.0f}; {remedy}")
