"""Files that attack or are damaged: refused or skipped by name, fast, and without memory."""

import io
import os
import pickle
import re
import socket
import struct
import tarfile
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from data_corpus import encoded, fill, pack
from ornstein.data import load_data


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_CACHE", str(tmp_path_factory.mktemp("cache")))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(side, *chunks):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) + b"".join(chunks)


DAMAGED = {
    "empty": b"", "text": b"hello", "claims 65535 x 65535": png(65535, chunk(b"IDAT", zlib.compress(b"x"))),
    "zTXt bomb": png(64, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27), 9)), chunk(b"IDAT", b"x")),
    "iTXt bomb": png(64, chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**27), 9)), chunk(b"IDAT", b"x")),
    "half a JPEG": encoded("JPEG")[:len(encoded("JPEG")) // 2], "half a PNG": encoded("PNG")[:6000],
    "pickle": pickle.dumps(np.zeros(3)),
}


@pytest.mark.parametrize("reader", ["cache", "stream"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_picture_costs_nothing_and_is_named(tmp_path, name, reader, decoded):
    """Nothing larger than a small picture is decoded, nor an eighth of a bomb of text unpacked."""
    fill(tmp_path, 12)
    whole = load_data(tmp_path)
    (tmp_path / "z.png").write_bytes(DAMAGED[name])
    tracemalloc.start()
    data = load_data(tmp_path, reader=reader)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert np.array_equal(data.values[:12], whole.values)
    if reader == "cache":
        assert len(data) == 12
        assert data.skipped[0].startswith("z.png: ")
        assert any("files skipped: 1: z.png" in note for note in data.notes)
    else:
        assert np.array_equal(data.values[12:13], whole.values[:1])
        assert list(data.values.failed) == [12]
    assert max(decoded) <= 64 * 64


def test_a_flipped_bit_in_a_png_never_gives_other_pixels(tmp_path):
    content = encoded("PNG", 16)
    (tmp_path / "a.png").write_bytes(content)
    whole = load_data(tmp_path).values[0]
    rng, refused = np.random.default_rng(0), 0
    for _ in range(100):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (tmp_path / "a.png").write_bytes(flipped)
        try:
            data = load_data(tmp_path)
        except ValueError:
            refused += 1
        else:
            assert np.array_equal(data.values[0], whole)
    assert refused > 80


class Canary:
    def __reduce__(self):
        return os.mkdir, ("canary",)


def test_no_file_of_any_kind_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Canary()}, "a.pt")
    evil = pickle.dumps(Canary())
    objects = io.BytesIO()
    np.save(objects, np.array([Canary()]), allow_pickle=True)
    for name in ("b.pkl", "c.npy", "d.npz", "e.parquet", "f.tar", "g.png", "h.ckpt"):
        (tmp_path / name).write_bytes(evil)
    (tmp_path / "i.npy").write_bytes(objects.getvalue())
    (tmp_path / "j.yaml").write_bytes(b"!!python/object/apply:os.mkdir [canary]")
    pack(tmp_path / "k.tar", [("a.npy", objects.getvalue())])
    pack(tmp_path / "l.tar", [("a.png", evil), ("a.cls", evil)])
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=re.escape(path.name)) as caught:
            load_data(str(path))
        assert "\n" not in str(caught.value)
    assert not os.path.exists("canary")
    with tarfile.open("k.tar") as tar, pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        np.load(tar.extractfile("a.npy"), allow_pickle=False)


def test_a_folder_that_links_to_itself_ends(tmp_path):
    fill(tmp_path, 12, "a/{}.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    data = load_data(tmp_path)
    assert len(data) == 12
    assert data.skipped == ["self.png: not a regular file", "a/loop: a link to a folder that is read already"]


def test_one_picture_is_a_set_and_holds_nothing_out(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "bild \u00e4\u6f22.png")
    data = load_data(tmp_path)
    assert len(data) == 1
    assert "nothing is held out: 1 samples are fewer than 10" in data.notes


@pytest.mark.parametrize("name", ["a.tar", "a.parquet", "a.npy", "a.npz", "a.png"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path, name, kind, monkeypatch):
    if kind == "folder" and name == "a.png":
        return
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    {"pipe": lambda: os.mkfifo(name), "socket": lambda: socket.socket(socket.AF_UNIX).bind(name),
     "device": lambda: os.symlink("/dev/zero", name), "folder": lambda: os.mkdir(name)}[kind]()
    source = name if not name.endswith("png") else "."
    with pytest.raises(ValueError, match=r"regular file|the folder is empty") as caught:
        load_data(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [
    "{0..1000000000}.tar", "{0..99999}{0..99999}.tar", "http://localhost/{0..1000000000}.tar", "{0..1" + "0" * 5000
    + "}.parquet", "x/{" + ",".join("ab" * 100_000) + "}.tar"])
def test_more_files_than_a_set_can_have_are_refused_before_they_are_listed(source):
    with pytest.raises(ValueError, match="names more than 100,000 files") as caught:
        load_data(source)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("source", ["a" * 5000 + ".tar", "no\0body.tar", "~nobody-of-this-name/a.tar",
                                    "{" + "," * 200_000, "a\x1b[31m.tar"])
def test_a_name_that_no_file_can_have_is_one_printable_line(source):
    with pytest.raises((FileNotFoundError, ValueError)) as caught:
        load_data(source)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "GIF"])
def test_pillow_maps_no_file(tmp_path, kind, monkeypatch):
    """A map of a file that is cut meanwhile kills the process."""
    fill(tmp_path, 1)
    Image.open(tmp_path / "fill0.png").save(tmp_path / f"a.{kind.lower()}", kind)
    monkeypatch.setattr("mmap.mmap", None)
    assert len(load_data(tmp_path)) == 2
