"""`ornstein sample --again`: a picture, a film or numbers drawn once more, from what the file says of itself."""

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

MANY = 64  # samples of a file that does not say how many it has, as some from before version 0.4 do not
MOST = 2**32  # samples of a seed


def redraw(picture: Path, run: Path | None, out: Path | None, sampler: str) -> None:
    """Draw a file again, into `out` or beside it, and say whether it is the same.

    Raises:
        ValueError: a file that Ornstein did not draw, or that says what cannot be; a sampler of the user's own that is
            not named again.
        FileNotFoundError: no such file, or no such run.
    """
    from ornstein.figures.formats import FILMS, read_facts
    from ornstein.request import Request

    facts = read_facts(picture)
    if facts is None or not isinstance(facts.get("model"), str) or "edit" in facts:
        what = "was made by ornstein edit, from another picture" if facts and "edit" in facts else \
            "does not say how it was drawn: it is no sample of Ornstein's, or another program has written it anew"
        raise ValueError(f"{picture} {what}; only what ornstein sample has drawn is drawn again")
    own = facts.get("sampler")
    if isinstance(own, str) and ":" in own and sampler != own:
        raise ValueError(f"{picture} was drawn by a sampler of your own, and code is never run because a picture says "
                         f"so; if you trust it, name it: --sampler {own}")
    if sampler not in ("auto", own):
        raise ValueError(f"--again and --sampler are both given, but {picture} says how it was drawn; leave --sampler "
                         "out")
    try:
        request = Request.of({**facts, "sampler": "auto" if sampler == own else own})
        options: dict[str, Any] = {name: getattr(request, name) for name in (
            "label", "condition", "guidance", "seed", "nfe", "steps", "tolerance")}
        count, scale = request.count if "count" in facts else MANY, _whole(facts, "scale")
        number, cells = _whole(facts, "number"), facts.get("cells")
    except ValueError as error:
        raise ValueError(f"{picture} cannot be drawn again: {error}") from None
    if "grid" in facts and not (isinstance(cells, list) and all(isinstance(word, str) for word in cells)):
        raise ValueError(f"{picture} is a sheet of several options from before version 0.4, and does not say them; "
                         "draw it with --grid")
    run = _run(picture, facts, run)
    out = out or picture.with_name(f"{picture.stem}-again{picture.suffix}")
    chosen = _Chosen(facts, run)
    options["sampler"] = sampler if sampler == own else own
    if number is not None:
        _single(run, picture, out, number, scale, options, chosen)
    else:
        film = picture.suffix.lower() in FILMS and _moves(picture)
        draw(run, out=None if film else out, save_steps=out if film else None, grid=cells, count=count, scale=scale,
             options=options, tuned=chosen)
    say(_compared(picture, out, chosen.changed))


class _Chosen:
    """What the model was tuned for when a file was drawn, in place of what it is tuned for now."""

    def __init__(self, facts: Mapping[str, Any], run: Path) -> None:
        from ornstein.checkpoint import digest

        self.tuned = facts.get("tuned")
        self.changed = digest(run) != facts["model"]
        if self.changed:
            say(f"the model of {run} is not the one that drew it (SHA-256 {facts['model'][:12]} ...): it has been "
                "trained or tuned since, or is another run's", error=True)

    def __call__(self, model: NetworkDenoiser) -> None:
        from ornstein.diffusion.samplers.choice import Choice
        from ornstein.diffusion.samplers.loop import SAMPLERS

        if self.changed:
            chosen = [Choice.from_dict(self.tuned, SAMPLERS)] if isinstance(self.tuned, dict) else []
            model.tuned = {choice.key: choice for choice in chosen}


def _run(picture: Path, facts: Mapping[str, Any], run: Path | None) -> Path:
    """The run that drew a file, where it is now."""
    if run is not None:
        return run
    name = facts.get("run")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{picture} does not say which run drew it; name it: ornstein sample RUN --again {picture}")
    if not Path(name).exists():
        raise FileNotFoundError(f"{picture} was drawn by {name}, which is not there; name the run: ornstein sample RUN "
                                f"--again {picture}")
    return Path(name)


def _whole(facts: Mapping[str, Any], name: str) -> int | None:
    from ornstein.arguments import require_int

    return None if facts.get(name) is None else require_int(name, facts[name], 0, MOST)


def _single(run: Path, picture: Path, out: Path, number: int, scale: int | None, options: dict[str, Any],
            chosen: _Chosen) -> None:
    """Draw one picture of a folder again."""
    from PIL import Image

    from ornstein import files
    from ornstein.checkpoint import load
    from ornstein.figures.formats import read_facts, write_picture
    from ornstein.figures.pictures import enlarged, show, single
    from ornstein.machine import default_device
    from ornstein.request import Request
    from ornstein.user_classes import load_sampler

    if out.suffix.lower() != ".png":
        raise ValueError(f"out is {out}; a picture of a folder is drawn again as FILE.png")
    files.check_replaceable(out)
    model = load(run).to(default_device())
    if model.data is None:
        raise ValueError(f"{run} says nothing of its data, and did not draw {picture}; name the run that drew it")
    chosen(model)
    request = Request(number + 1, **(options | {"sampler": load_sampler(options["sampler"])}))
    x = request.draw(model, only=number).cpu()
    image = show(model.data, x, 1) if model.data.kind != "picture" else Image.fromarray(
        enlarged(single(model.data, x), scale or 1)[0])
    write_picture(image, out, read_facts(picture) or {})


def _moves(picture: Path) -> bool:
    """Whether a file is a film."""
    from PIL import Image

    if picture.suffix.lower() != ".webp":
        return True
    with Image.open(picture) as image:
        return bool(getattr(image, "is_animated", False))


def _compared(before: Path, after: Path, changed: bool) -> str:
    """Whether two files show the same, in words."""
    if before.suffix.lower() != after.suffix.lower():
        return f"drawn again into {after}"
    one, other = _arrays(before), _arrays(after)
    if len(one) == len(other) and all(map(np.array_equal, one, other)):
        return f"drawn again into {after}: the same, bit for bit"
    why = "as another model drew it" if changed else "as other machines and versions of PyTorch round differently"
    return f"drawn again into {after}: it is not the same bit for bit, {why}"


def _arrays(path: Path) -> list[np.ndarray]:
    """All that a file shows."""
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
