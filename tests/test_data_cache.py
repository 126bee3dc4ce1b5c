"""What is decoded once and kept: the same data, at once, whatever is missing, damaged or full."""

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data_corpus import fill, save
from ornstein.data import cache, load_data
from ornstein.data.stored import StoredRows


@pytest.fixture(autouse=True)
def place(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ORNSTEIN_CACHE", str(folder))
    monkeypatch.setattr(cache, "MIN_CACHED_BYTES", 1)
    return folder


def test_a_folder_is_decoded_once(tmp_path, place, monkeypatch):
    fill(tmp_path, 20, "a/{}.png")
    fill(tmp_path, 20, "b/{}.png")
    (tmp_path / "a" / "bad.png").write_bytes(b"hello")
    first = load_data(tmp_path)
    assert isinstance(first.values.values, StoredRows)
    assert any("kept in" in note for note in first.notes)
    monkeypatch.setattr("ornstein.data.corpus.decode_picture", None)
    monkeypatch.setattr("ornstein.data.corpus.read_header", None)
    again = load_data(tmp_path)
    for name in ("notes", "skipped", "spec"):
        assert getattr(again, name) == getattr(first, name)
    assert np.array_equal(again.values[:], first.values[:])
    assert np.array_equal(again.labels, first.labels)
    assert again.digest() == first.digest()
    assert sorted(path.suffix for path in place.iterdir()) == [".json", ".npy"]


def test_kept_and_unkept_data_have_one_digest(tmp_path, monkeypatch):
    fill(tmp_path, 12)
    kept = load_data(tmp_path)
    monkeypatch.setattr(cache, "MIN_CACHED_BYTES", 10**9)
    shutil.rmtree(cache.folder())
    assert load_data(tmp_path).digest() == kept.digest()


@pytest.mark.parametrize("change", ["touch", "add", "size", "rename"])
def test_other_pictures_or_another_size_are_decoded_anew(tmp_path, change):
    fill(tmp_path, 12)
    before = load_data(tmp_path)
    if change == "add":
        fill(tmp_path, 13)
    if change == "touch":
        save(tmp_path, "fill0.png", np.zeros((8, 8, 3), np.uint8))
    if change == "rename":
        (tmp_path / "fill0.png").rename(tmp_path / "z.png")
    assert load_data(tmp_path, size=4 if change == "size" else None).digest() != before.digest()


@pytest.mark.parametrize("damage", ["cut", "gone", "json", "empty", "list", "bit", "nested", "other"])
def test_a_damaged_cache_is_made_anew(tmp_path, place, damage):
    fill(tmp_path, 12)
    digest = load_data(tmp_path).digest()
    record, values = next(place.glob("*.json")), next(place.glob("*.npy"))
    {"cut": lambda: os.truncate(values, 300), "gone": values.unlink, "json": lambda: record.write_text("{"),
     "empty": lambda: record.write_text("{}"), "list": lambda: record.write_text("[]"),
     "nested": lambda: record.write_text("[" * 100_000),
     "bit": lambda: record.write_bytes(record.read_bytes().replace(b"failed", b"fbiled")),
     "other": lambda: record.write_text('{"failed": 5, "bytes": "x"}')}[damage]()
    assert load_data(tmp_path).digest() == digest


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(tmp_path, place, monkeypatch):
    fill(tmp_path, 12)
    monkeypatch.setattr(cache, "free_bytes", lambda: 1000)
    with pytest.raises(OSError, match=rf"{place}: No space left on device: the decoded data need 0\.0 MB and 0\.0 MB "
                                      "are free; set ORNSTEIN_CACHE to a writable folder with enough space") as caught:
        load_data(tmp_path, reader="cache")
    assert caught.value.errno is None
    assert "\n" not in str(caught.value)
    assert {path.suffix for path in place.iterdir()} <= {".lock"}


def test_a_disk_that_fills_while_writing_leaves_no_part(place):
    def blocks():
        yield np.zeros((1, 4), np.uint8)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left on device: the decoded data need"):
        cache.write_values("k", (2, 4), blocks, dict)
    assert {path.suffix for path in place.iterdir()} <= {".lock"}


def test_what_a_killed_process_left_is_removed(tmp_path, place):
    fill(tmp_path, 12)
    load_data(tmp_path)
    key = next(place.glob("*.json")).stem
    for path in place.glob("*.json"):
        path.unlink()
    left = place / f".{key[:40]}.abcdefgh.ornstein-new"
    left.mkdir()
    (left / f"{key}.npy").write_bytes(b"half")
    load_data(tmp_path)
    assert not left.exists()


def test_two_that_want_the_same_decode_it_once(tmp_path, monkeypatch):
    from ornstein.data import corpus

    fill(tmp_path, 40)
    count, real = [], corpus._try_decode
    monkeypatch.setattr(corpus, "_try_decode", lambda *given: (count.append(1), real(*given))[1])
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda _: load_data(tmp_path).digest(), range(8)))
    assert len(set(digests)) == 1
    assert len(count) == 40


def test_a_picture_that_breaks_in_decoding_and_settled_the_channels_settles_them_anew(tmp_path):
    fill(tmp_path, 20, shape=(8, 8))
    path = save(tmp_path, "z.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:5000])
    data = load_data(tmp_path)
    assert data.spec.shape == (1, 8, 8)
    assert len(data) == 20


def test_a_disk_too_small_is_streamed_to_and_says_so(tmp_path, monkeypatch):
    fill(tmp_path, 12)
    kept = load_data(tmp_path)
    shutil.rmtree(cache.folder())
    monkeypatch.setattr(cache, "free_bytes", lambda: 1000)
    data = load_data(tmp_path)
    assert any("decoded on each access" in note for note in data.notes)
    assert np.array_equal(data.values[3:9], kept.values[3:9])
    train, held = data.split()
    assert np.array_equal(held.values[:], kept.values[kept.held])
    assert np.array_equal(train.batch([2, 0])[0], kept.split()[0].batch([2, 0])[0])
    assert data.digest() == load_data(tmp_path).digest() != kept.digest()


def test_a_large_array_is_read_to_the_end_once(tmp_path, place, monkeypatch):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((50, 3, 16)))
    first = load_data(tmp_path / "a.npy")
    monkeypatch.setattr("ornstein.data.array.measure_channels", None)
    monkeypatch.setattr("ornstein.data.dataset.digest_values", None)
    again = load_data(tmp_path / "a.npy")
    assert again.spec == first.spec
    assert again.digest() == first.digest()
    assert len(list(place.iterdir())) == 1


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_a_mapped_file_needs_no_memory_of_its_size(tmp_path):
    """The process may hold no more than half the file beyond what it holds at rest; pages of the map do not count."""
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float16, (1500, 1, 256, 256))[::500] = 1
    code = ("import re, resource, sys, ornstein.data as d\n"
            "held = 1024 * int(re.search(r'VmData:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
            "resource.setrlimit(resource.RLIMIT_DATA, (held + 98_000_000,) * 2)\n"
            "data = d.load_data(sys.argv[1]); train, held = data.split(); train.batch(range(64)); data.digest()\n"
            "try:\n    data.values[:].copy()\nexcept MemoryError:\n    print('the limit holds')")
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.npy")], capture_output=True, text=True,
                         check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert run.stdout == "the limit holds\n", run.stderr


@pytest.mark.parametrize("text", ["[]", "{}", "\xff", '{"samples": {"0": 5}, "others": []}', "[" * 100_000, ""])
def test_a_damaged_index_of_a_shard_is_made_anew(tmp_path, place, text):
    from data_corpus import encoded, pack

    pack(tmp_path / "a.tar", [(f"{n}.png", encoded("PNG", 8)) for n in range(3)])
    expected = load_data(tmp_path / "a.tar", reader="stream").values[:]
    index = next(place.glob("*.json"))
    kept = index.read_bytes()
    index.write_text(text, "latin-1")
    assert np.array_equal(load_data(tmp_path / "a.tar", reader="stream").values[:], expected)
    assert index.read_bytes() == kept


@pytest.mark.parametrize("where", ["below a file", "a file", "/proc/nowhere", "locked"])
def test_an_unwritable_cache_is_gone_on_without(tmp_path, monkeypatch, where):
    from data_corpus import encoded, pack

    (tmp_path / "file").write_text("x")
    (tmp_path / "locked").mkdir(mode=0o500)
    monkeypatch.setenv("ORNSTEIN_CACHE", {"below a file": str(tmp_path / "file" / "cache"), "a file": str(
        tmp_path / "file"), "locked": str(tmp_path / "locked")}.get(where, where))
    if where == "locked":  # root may write there all the same
        monkeypatch.setattr("os.access", lambda path, _: "locked" not in str(path))
        monkeypatch.setattr("ornstein.files.replacing", _locked)
    pack(tmp_path / "a.tar", [(f"{n}.png", encoded("PNG", 8)) for n in range(12)])
    np.save(tmp_path / "a.npy", np.arange(3000.0).reshape(30, 100))
    array = load_data(tmp_path / "a.npy")
    assert np.array_equal(array.values[:], np.arange(3000.0).reshape(30, 100))
    shard = load_data(tmp_path / "a.tar")
    assert shard.streamed
    monkeypatch.setattr(cache, "MIN_CACHED_BYTES", 10**6)
    small = load_data(tmp_path / "a.tar")
    assert np.array_equal(small.values, shard.values[:])
    for data in (array, shard, small):
        assert len([note for note in data.notes if "nothing is kept for the next start" in note]) == 1


def _locked(path):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
