"""Films of pictures as they form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ornstein import files
from ornstein.data import DataSpec
from ornstein.diffusion.samplers import Frame
from ornstein.figures.formats import exif, facts_text, film_format, flatten
from ornstein.figures.pictures import column_count, show

__all__ = ["check_data", "write_film"]

SIDE = 640  # pixels up to which frames of small pictures are enlarged
MAX_MOMENTS = 120  # shown, evenly spread over the walk
LENGTH, HOLD = 3000, 1500  # milliseconds of the walk, and of the finished pictures
SHORTEST, LONGEST = 50, 250  # milliseconds of one moment
RATE = 20  # frames a second of an .mp4, where each moment takes a whole number of them


def check_data(spec: DataSpec) -> None:
    """Raise ValueError for data that cannot be filmed, naming the command that shows them instead."""
    if spec.kind != "picture":
        figure = ("points move in ornstein trace RUN --figure field --out FILE.gif" if spec.shape == (2,) else
                  "ornstein trace RUN --out FILE.png shows a sample on its way" if len(spec.shape) > 1 else
                  "vectors have no look; ornstein sample RUN --out FILE.npz has their numbers")
        raise ValueError(f"a film shows pictures, and samples of shape {spec.shape} are not pictures; {figure}")


def write_film(frames: Iterable[Frame], path: Path, spec: DataSpec, labels: Tensor | None = None,
               scale: int | None = None, facts: Mapping[str, Any] | None = None) -> Tensor:
    """Write the moments of a walk as a film that ends with the finished samples, and return these.

    Args:
        frames: of `generate`, each a moment of (count, *shape).
        path: file, one of `FILM_FORMATS`.
        spec: of pictures.
        labels: (count,) classes, whose names are written over the pictures.
        scale: whole factor that pictures are enlarged by; None for the largest that fits.
        facts: metadata of the film.
    """
    kind, moments, every, last = film_format(path), list[Image.Image](), 1, torch.empty(0, device="cpu")
    for number, frame in enumerate(frames):
        # A latent of large noise is shown at the scale of the data.
        radius = frame.estimate.level.radius.clamp(min=1) if frame.time else 1
        last = frame.latent
        if number % every == 0 or frame.time == 0:
            columns = column_count(len(last), labels)
            moments.append(flatten(show(spec, (frame.latent / radius).cpu(), columns, labels, scale, SIDE)))
        if len(moments) > MAX_MOMENTS and frame.time:
            moments, every = moments[::2], 2 * every
    duration = int(np.clip(LENGTH / max(len(moments) - 1, 1), SHORTEST, LONGEST))
    with files.replacing(path) as file:
        _WRITERS[kind](moments, [duration] * (len(moments) - 1) + [HOLD], file, facts or {})
    return last


def _gif(moments: list[Image.Image], durations: list[int], file: Path, facts: Mapping[str, Any]) -> None:
    # The palette is that of the finished pictures: noise would use up all colours, and still parts would flicker.
    grey = _is_grey(moments[-1])
    palette = moments[-1].quantize(255)
    palette.putpalette([255, 255, 255, *(palette.getpalette() or ())])
    paletted = [moment.convert("L") if grey else _in_colours(moment, palette) for moment in moments]
    paletted[0].save(file, format="GIF", save_all=True, append_images=paletted[1:], duration=durations, loop=0,
                     comment=facts_text(facts).encode())


def _in_colours(image: Image.Image, palette: Image.Image) -> Image.Image:
    """A picture in the colours of a palette, whose first colour is white."""
    indices = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
    indices[(np.asarray(image) == 255).all(-1)] = 0  # Pillow would choose another near colour
    paletted = Image.fromarray(indices)
    paletted.putpalette(palette.getpalette() or ())
    return paletted


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = (np.asarray(channel) for channel in image.convert("RGB").split())
    return bool((red == green).all() and (green == blue).all())


def _webp(moments: list[Image.Image], durations: list[int], file: Path, facts: Mapping[str, Any]) -> None:
    moments[0].save(file, format="WEBP", save_all=True, append_images=moments[1:], duration=durations, loop=0,
                    quality=60, method=4, exif=exif(facts))


def _mp4(moments: list[Image.Image], durations: list[int], file: Path, facts: Mapping[str, Any]) -> None:
    import av  # pyrefly: ignore[missing-import]

    with av.open(str(file), "w") as film:
        film.metadata["comment"] = facts_text(facts)
        # Several threads do not always encode the same frames in the same way.
        stream = film.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "medium", "threads": "1"})
        # Even sides, since colours have half the resolution.
        stream.width, stream.height = (side + side % 2 for side in moments[0].size)
        stream.pix_fmt = "yuv420p"
        for moment, duration in zip(moments, durations, strict=True):
            sheet = Image.new("RGB", (stream.width, stream.height), "white")
            sheet.paste(moment, (0, 0))
            for _ in range(max(1, round(duration * RATE / 1000))):
                film.mux(stream.encode(av.VideoFrame.from_image(sheet)))
        film.mux(stream.encode())


_WRITERS = {".gif": _gif, ".webp": _webp, ".mp4": _mp4}
