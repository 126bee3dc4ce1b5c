"""`ornstein sample --again`: draw a picture, a film or numbers again, from the metadata of the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.cli.sample import draw
from ornstein.display import say

if TYPE_CHECKING:
    from ornstein.diffusion.denoiser import NetworkDenoiser

__all__ = ["redraw"]

DEFAULT_COUNT = 64  # samples of a file without a count, as some from before version 0.4
MAX_SAMPLES = 2**32  # of a seed


def redraw(picture: Path, run: Path | None, out: Path | None, sampler: str) -> None:
    """Draw a file again, into `out` or beside it, and print whether it is the same.

    Raises:
        ValueError: a file that Ornstein did not draw, or with impossible metadata; a sampler of the user's own that is
            not named again.
        FileNotFoundError: the file or the run does not exist.
    """
    from ornstein.figures.formats import FILM_FORMATS, read_facts
    from ornstein.request import Request

    facts = read_facts(picture)
    if facts is None or not isinstance(facts.get("model"), str) or "edit" in facts:
        reason = ("was made by ornstein edit, from another picture" if facts and "edit" in facts else
                  "does not say how it was drawn: it is not a sample of Ornstein's, or another program rewrote it")
        raise ValueError(f"{picture} {reason}; only files that ornstein sample drew can be drawn again")
    drawn_by = "auto" if facts.get("sampler") is None else facts["sampler"]
    if isinstance(drawn_by, str) and ":" in drawn_by and sampler != drawn_by:
        raise ValueError(f"{picture} was drawn by a sampler of your own, and code is never run because a picture says "
                         f"so; if you trust it, name it: --sampler {drawn_by}")
    if sampler not in ("auto", drawn_by):
        raise ValueError(f"--again and --sampler are both given, but {picture} says how it was drawn; leave --sampler "
                         "out")
    try:
        request = Request.of({**facts, "sampler": "auto" if sampler == drawn_by else drawn_by})
        options: dict[str, Any] = {name: getattr(request, name) for name in (
            "label", "condition", "guidance", "seed", "nfe", "steps", "tolerance")}
        count, scale = request.count if "count" in facts else DEFAULT_COUNT, _read_int(facts, "scale")
        number, cells = _read_int(facts, "number"), facts.get("cells")
    except ValueError as error:
        raise ValueError(f"{picture} cannot be drawn again: {error}") from None
    if "grid" in facts and not (isinstance(cells, list) and all(isinstance(pair, str) for pair in cells)):
        raise ValueError(f"{picture} is a sheet from before version 0.4, which does not name its options; "
                         "draw it with --grid")
    run = _find_run(picture, facts, run)
    out = out or picture.with_name(f"{picture.stem}-again{picture.suffix}")
    original_choice = _OriginalChoice(facts, run)
    options["sampler"] = drawn_by
    if number is not None:
        _redraw_numbered(run, picture, out, number, scale, options, original_choice)
    else:
        is_film = picture.suffix.lower() in FILM_FORMATS and _is_animated(picture)
        draw(run, out=None if is_film else out, save_steps=out if is_film else None, grid=cells, count=count,
             scale=scale, options=options, set_tuned=original_choice)
    say(_comparison(picture, out, original_choice.is_other_model))


class _OriginalChoice:
    """Replaces a model's tuned choices by the one with which a file was drawn."""

    def __init__(self, facts: Mapping[str, Any], run: Path) -> None:
        from ornstein.checkpoint import digest

        self.tuned = facts.get("tuned")
        self.is_other_model = digest(run) != facts["model"]
        if self.is_other_model:
            say(f"the model of {run} is not the one that drew it (SHA-256 {facts['model'][:12]} ...): it was "
                "trained or tuned since, or belongs to another run", error=True)

    def __call__(self, model: NetworkDenoiser) -> None:
        from ornstein.diffusion.samplers.choice import Choice
        from ornstein.diffusion.samplers.loop import SAMPLERS

        if self.is_other_model:
            choices = [Choice.from_dict(self.tuned, SAMPLERS)] if isinstance(self.tuned, dict) else []
            model.tuned = {choice.key: choice for choice in choices}


def _find_run(picture: Path, facts: Mapping[str, Any], run: Path | None) -> Path:
    """The path of the run that drew a file."""
    if run is not None:
        return run
    name = facts.get("run")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{picture} does not say which run drew it; name it: ornstein sample RUN --again {picture}")
    if not Path(name).exists():
        raise FileNotFoundError(f"{picture} was drawn by {name}, which does not exist; name the run: ornstein sample "
                                f"RUN --again {picture}")
    return Path(name)


def _read_int(facts: Mapping[str, Any], name: str) -> int | None:
    from ornstein.arguments import require_int

    return None if facts.get(name) is None else require_int(name, facts[name], 0, MAX_SAMPLES)


def _redraw_numbered(run: Path, picture: Path, out: Path, number: int, scale: int | None, options: dict[str, Any],
                     original_choice: _OriginalChoice) -> None:
    """Draw one numbered picture of a folder again."""
    from PIL import Image

    from ornstein import files
    from ornstein.checkpoint import load
    from ornstein.figures.formats import read_facts, write_picture
    from ornstein.figures.pictures import enlarge, file_pixels, show
    from ornstein.machine import default_device
    from ornstein.request import Request
    from ornstein.user_classes import load_sampler

    if out.suffix.lower() != ".png":
        raise ValueError(f"out is {out}; a picture of a folder is drawn again as FILE.png")
    files.check_replaceable(out)
    model = load(run).to(default_device())
    if model.data is None:
        raise ValueError(f"{run} has no description of its data, and did not draw {picture}; name the run that drew it")
    original_choice(model)
    request = Request(number + 1, **(options | {"sampler": load_sampler(options["sampler"])}))
    x = request.draw(model, only=number).cpu()
    image = show(model.data, x, 1) if model.data.kind != "picture" else Image.fromarray(
        enlarge(file_pixels(model.data, x), scale or 1)[0])
    write_picture(image, out, read_facts(picture) or {})


def _is_animated(picture: Path) -> bool:
    """Whether a file is a film; only .webp may also be a picture."""
    from PIL import Image

    if picture.suffix.lower() != ".webp":
        return True
    with Image.open(picture) as image:
        return bool(getattr(image, "is_animated", False))


def _comparison(before: Path, after: Path, is_other_model: bool) -> str:
    """A sentence on whether two files show the same."""
    if before.suffix.lower() != after.suffix.lower():
        return f"drawn again into {after}"
    arrays, others = _arrays(before), _arrays(after)
    if len(arrays) == len(others) and all(map(np.array_equal, arrays, others)):
        return f"drawn again into {after}: the same, bit for bit"
    reason = ("as another model drew it" if is_other_model else
              "as other machines and versions of PyTorch round differently")
    return f"drawn again into {after}: it is not the same bit for bit, {reason}"


def _arrays(path: Path) -> list[np.ndarray]:
    """The content of a file as arrays."""
    from PIL import Image, ImageSequence

    if path.suffix.lower() == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return [archive[name] for name in sorted(archive.files) if name != "ornstein"]
    if path.suffix.lower() == ".mp4":
        import av  # pyrefly: ignore[missing-import]

        with av.open(str(path)) as film:
            return [frame.to_ndarray() for frame in film.decode(video=0)]
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGBA") if frame.mode == "P" else frame)
                for frame in ImageSequence.Iterator(image)]
