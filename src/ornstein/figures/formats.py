"""File formats of pictures by ending, and the metadata in them: seed, sampler, model and the like."""

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

__all__ = [
    "FILM_FORMATS",
    "KEY",
    "MAX_SCALE",
    "NUMBER_FORMATS",
    "PICTURE_FORMATS",
    "embedded_text",
    "exif",
    "facts_text",
    "film_format",
    "flatten",
    "output_format",
    "read_facts",
    "save_options",
    "write_picture",
]

# Formats by ending. WebP is lossless and JPEG has full colour resolution, since samples are small and enlarged pixels
# have sharp edges.
PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
NUMBER_FORMATS = (".npz", ".csv")
FILM_FORMATS = (".gif", ".webp", ".mp4")
MAX_SCALE = 64  # largest factor that pixels are enlarged by
DIGIT_ENDINGS = (".mp3", ".jp2", ".m4v")  # file endings with a digit; others belong to folders
KEY, DESCRIPTION, SOFTWARE = "ornstein", 0x010E, 0x0131  # key of PNG's text, and tags of EXIF


def output_format(out: Path, more: tuple[str, ...] = ()) -> str:
    """The format of an output path for samples: an ending of `PICTURE_FORMATS`, `NUMBER_FORMATS` or `more`, or "" for a
    folder; ValueError for others."""
    kind = out.suffix.lower()
    known = kind in (*PICTURE_FORMATS, *NUMBER_FORMATS, *more)
    if out.is_dir() if known else out.is_file():
        raise ValueError(f"out is {out}, which is a {'folder' if out.is_dir() else 'file'} already; name another")
    if known:
        return kind
    # dir.v3 and runs.2026 are folders; x.bmp is meant as a file.
    if out.is_dir() or not kind or (re.search(r"[0-9]", kind) and kind not in (*FILM_FORMATS, *DIGIT_ENDINGS)):
        return ""
    film = f"; for a film of the pictures forming, --save-steps {out}" if kind in FILM_FORMATS and not more else ""
    endings = alternatives(*NUMBER_FORMATS, *more)
    raise ValueError(f"out is {out}; it must end in .png, .jpg, .webp, {endings}, or be a folder{film}")


def film_format(path: Path) -> str:
    """The ending of a film's file; ValueError for others, ModuleNotFoundError if .mp4 needs a missing package."""
    kind = path.suffix.lower()
    if kind not in FILM_FORMATS:
        raise ValueError(f"a film cannot be written as {path}; name a .gif, .webp or .mp4 file")
    if kind == ".mp4" and importlib.util.find_spec("av") is None:
        raise ModuleNotFoundError(f"{path} needs the package av (pip install 'ornstein[film]'); .gif and .webp films "
                                  "need nothing more")
    return kind


def facts_text(facts: Mapping[str, Any]) -> str:
    """Metadata as one line of JSON in ASCII."""
    return json.dumps(dict(facts))


def save_options(kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Pillow's options for writing a picture with metadata: in PNG under the key "ornstein", in JPEG and WebP as the
    description of EXIF.
    """
    if PICTURE_FORMATS[kind] == "PNG":
        text = PngInfo()
        text.add_itxt(KEY, facts_text(facts))
        return {"format": "PNG", "pnginfo": text}
    return {"format": PICTURE_FORMATS[kind], "exif": exif(facts),
            **({"lossless": True} if PICTURE_FORMATS[kind] == "WEBP" else {"quality": 95, "subsampling": 0})}


def read_facts(path: Path) -> dict[str, Any] | None:
    """Read the metadata that Ornstein wrote into a picture, a film or an .npz file; None if there is none.

    Raises:
        OSError: the file is missing or cannot be read.
        ModuleNotFoundError: an .mp4 film, which needs a package.
    """
    with files.open_regular(path) as file:
        start = file.read(2)
    text: object = None
    has_comment = path.suffix.lower() in (".gif", ".mp4")  # which other programs write too
    # Damaged files raise many types of errors; they have no metadata.
    with contextlib.suppress(OSError, ValueError, SyntaxError, KeyError, EOFError, zipfile.BadZipFile,
                             Image.DecompressionBombError):
        if path.suffix.lower() == ".mp4":
            text = _mp4_comment(path)
        elif start == b"PK":
            with np.load(path, allow_pickle=False) as archive:
                text = str(archive[KEY]) if KEY in archive.files else None
        else:
            with Image.open(path) as image:
                text = image.info.get("comment") if image.format == "GIF" else embedded_text(image)
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        facts = json.loads(text)  # type: ignore[arg-type]
        return facts if isinstance(facts, dict) and (not has_comment or "noise" in facts) else None
    return None


def embedded_text(image: Image.Image) -> str | None:
    """The text that `save_options` wrote into a picture; None if there is none."""
    tags = image.getexif() if image.format in ("JPEG", "WEBP") else {}
    return image.info.get(KEY) or (tags.get(DESCRIPTION) if tags.get(SOFTWARE) == KEY else None)


def _mp4_comment(path: Path) -> str | None:
    film_format(path)
    import av  # pyrefly: ignore[missing-import]

    with av.open(str(path)) as film:
        return film.metadata.get("comment")


def exif(facts: Mapping[str, Any]) -> Image.Exif:
    """Metadata as the description of a picture in EXIF."""
    tags = Image.Exif()
    tags[DESCRIPTION], tags[SOFTWARE] = facts_text(facts), KEY
    return tags


def write_picture(image: Image.Image, path: str | Path, facts: Mapping[str, Any]) -> None:
    """Write a picture with metadata, in one of `PICTURE_FORMATS`."""
    path = Path(path)
    kind = path.suffix.lower()
    with files.replacing(path) as file:
        (flatten(image) if PICTURE_FORMATS[kind] == "JPEG" else image).save(file, **save_options(kind, facts))


def flatten(image: Image.Image) -> Image.Image:
    """Remove transparency by laying a picture on white."""
    if image.mode in ("L", "RGB"):
        return image
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")
