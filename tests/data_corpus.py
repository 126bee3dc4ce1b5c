"""Builders of pictures that a careless reader gets wrong."""

import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

# 8 x 8, every pixel and channel its own value: a turned, cropped or recoloured picture cannot pass for it.
COLOUR = np.random.default_rng(1).permutation(192).astype(np.uint8).reshape(8, 8, 3)
GREY = COLOUR[:, :, 0].copy()


def save(folder: Path, name: str, picture: Image.Image | np.ndarray, **options: object) -> Path:
    """Write a picture below `folder` and return its path; by default a JPEG is as good as it gets."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(path, **options)
    return path


def fill(folder: Path, count: int, name: str = "fill{}.png", shape: tuple[int, ...] = (8, 8, 3)) -> None:
    """Write `count` good pictures of random pixels."""
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
        save(folder, name.format(number), pixels)


def png_bomb(path: Path, side: int) -> None:
    """Write a valid black 1-bit-depth-8 grey PNG of side x side pixels, never holding more than a row of it."""
    packer, row, parts = zlib.compressobj(9), bytes(side + 1), []
    for _ in range(side):
        parts.append(packer.compress(row))
    parts.append(packer.flush())

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", b"".join(parts)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def pack(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Write a tar file of named contents and return its path."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def encoded(kind: str, side: int = 64) -> bytes:
    """Return a noisy picture as the bytes of a file of that format."""
    pixels = np.random.default_rng(3).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()
