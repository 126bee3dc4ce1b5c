"""Files of pictures: what an ending stands for, and what a file says of itself, seed, sampler, model and the like."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ornstein import files
from ornstein.arguments import alternatives

__all__ = ["FILMS", "KEY", "KINDS", "MOST_SCALE", "NUMBERS", "about", "ending", "exif", "film_ending", "flat",
           "options", "read_facts", "write_picture", "written_in"]

# Formats by ending. WebP is written without loss, JPEG with whole colours: samples are small, and enlarged pixels have
# sharp edges.
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
NUMBERS = (".npz", ".csv")
FILMS = (".gif", ".webp", ".mp4")
MOST_SCALE = 64  # factor that pixels are enlarged by
OTHERS = (".mp3", ".jp2", ".m4v")  # endings with a digit that are a file's
KEY, DESCRIPTION, SOFTWARE = "ornstein", 0x010E, 0x0131  # of PNG's text, and tags of EXIF


def ending(out: Path, more: tuple[str, ...] = ()) -> str:
    """What the path of samples stands for: an ending of `KINDS`, `NUMBERS` or, of edits, `more`, or "" for a folder;
    ValueError for others."""
    kind = out.suffix.lower()
    known = kind in (*KINDS, *NUMBERS, *more)
    if out.is_dir() if known else out.is_file():
        raise ValueError(f"out is {out}, which is a {'folder' if out.is_dir() else 'file'} already; name another")
    if known:
        return kind
    # dir.v3 and runs.2026 are folders; x.bmp was meant for a file.
    if out.is_dir() or not kind or (re.search(r"[0-9]", kind) and kind not in (*FILMS, *OTHERS)):
        return ""
    film = f"; for a film of the pictures forming, --save-steps {out}" if kind in FILMS and not more else ""
    raise ValueError(f"out is {out}; it must end in .png, .jpg, .webp, {alternatives(*NUMBERS, *more)}, or be a folder"
                     f"{film}")


def film_ending(path: Path) -> str:
    """The ending of a film's file; ValueError for others, ModuleNotFoundError where .mp4 needs a package."""
    kind = path.suffix.lower()
    if kind not in FILMS:
        raise ValueError(f"a film cannot be written as {path}; name a .gif, .webp or .mp4 file")
    if kind == ".mp4" and importlib.util.find_spec("av") is None:
        raise ModuleNotFoundError(f"{path} needs the package av (pip install 'ornstein[film]'); .gif and .webp films "
                                  "need nothing more")
    return kind


def about(facts: Mapping[str, Any]) -> str:
    """Facts as one line of ASCII."""
    return json.dumps(dict(facts))


def options(kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What Pillow needs to write a picture of an ending that says what it is: in PNG under the key "ornstein", in JPEG
    and WebP as the description of EXIF.
    """
    if KINDS[kind] == "PNG":
        text = PngInfo()
        text.add_itxt(KEY, about(facts))
        return {"format": "PNG", "pnginfo": text}
    return {"format": KINDS[kind], "exif": exif(facts),
            **({"lossless": True} if KINDS[kind] == "WEBP" else {"quality": 95, "subsampling": 0})}


def read_facts(path: Path) -> dict[str, Any] | None:
    """What a picture, a film or an .npz file says of itself, None where it says nothing that Ornstein wrote.

    Raises:
        OSError: there is no such file, or it may not be read.
        ModuleNotFoundError: an .mp4 film, which needs a package.
    """
    with files.open_regular(path) as file:
        start = file.read(2)
    text: object = None
    comment = path.suffix.lower() in (".gif", ".mp4")  # which others write too
    # Broken files raise a dozen types between them, and say nothing.
    with contextlib.suppress(OSError, ValueError, SyntaxError, KeyError, EOFError, zipfile.BadZipFile,
                             Image.DecompressionBombError):
        if path.suffix.lower() == ".mp4":
            text = _of_mp4(path)
        elif start == b"PK":
            with np.load(path, allow_pickle=False) as archive:
                text = str(archive[KEY]) if KEY in archive.files else None
        else:
            with Image.open(path) as image:
                text = image.info.get("comment") if image.format == "GIF" else written_in(image)
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        facts = json.loads(text)  # type: ignore[arg-type]
        return facts if isinstance(facts, dict) and (not comment or "noise" in facts) else None
    return None


def written_in(image: Image.Image) -> str | None:
    """What `options` had written into a picture, as text; None where there is no such thing."""
    tags = image.getexif() if image.format in ("JPEG", "WEBP") else {}
    return image.info.get(KEY) or (tags.get(DESCRIPTION) if tags.get(SOFTWARE) == KEY else None)


def _of_mp4(path: Path) -> str | None:
    film_ending(path)
    import av  # pyrefly: ignore[missing-import]

    with av.open(str(path)) as film:
        return film.metadata.get("comment")


def exif(facts: Mapping[str, Any]) -> Image.Exif:
    """Facts as the description of a picture in EXIF."""
    tags = Image.Exif()
    tags[DESCRIPTION], tags[SOFTWARE] = about(facts), KEY
    return tags


def write_picture(image: Image.Image, path: str | Path, facts: Mapping[str, Any]) -> None:
    """Write one of `KINDS` that says what it is."""
    path = Path(path)
    kind = path.suffix.lower()
    with files.replacing(path) as file:
        (flat(image) if KINDS[kind] == "JPEG" else image).save(file, **options(kind, facts))


def flat(image: Image.Image) -> Image.Image:
    """A picture without transparency, which is laid on white."""
    if image.mode in ("L", "RGB"):
        return image
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")
