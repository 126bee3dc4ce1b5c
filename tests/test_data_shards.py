"""What tar shards become: samples by stem, labels, and what a cut, doubled, linked or strange member does."""

import io
import json
import os
import re
import tarfile
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from data_corpus import COLOUR, pack
from ornstein.data import load_data


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ORNSTEIN_CACHE", str(place))
    return place


def png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def members(count, first=0):
    return [one for number in range(first, first + count) for one in (
        (f"d/{number:03d}.png", png(number)), (f"d/{number:03d}.cls", str(number % 3).encode()))]


def refuse(path, *messages):
    with pytest.raises(ValueError, match=".*".join(map(re.escape, messages))) as caught:
        load_data(path)
    assert "\n" not in str(caught.value)


def test_samples_keep_their_order_over_shards_and_their_labels(tmp_path):
    for shard in range(3):
        pack(tmp_path / f"{shard:03d}.tar", members(4, 4 * shard))
    for source in (tmp_path, f"{tmp_path}/*.tar", f"{tmp_path}/{{000..002}}.tar"):
        data = load_data(source)
        assert data.values[:, 0, 0, 0].tolist() == list(range(12))
        assert data.labels.tolist() == [0, 1, 2] * 4
        assert data.spec.classes == ("0", "1", "2")
        assert "12 samples in 3 shards" in data.notes
        assert data.spec.name == tmp_path.name
    assert load_data(tmp_path / "001.tar").values[:, 0, 0, 0].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(("beside", "classes", "label"), [
    ([("a.cls", b"cat\n")], ("cat", "dog"), 0), ([("a.json", b'{"label": "dog", "w": 3}')], ("cat", "dog"), 1),
    ([("a.json", b'{"label": "dog"}'), ("a.cls", b"cat")], ("cat", "dog"), 0), ([], ("cat", "dog"), -1),
    ([("a.json", b'{"caption": "hello"}')], ("cat", "dog"), -1),
])
def test_labels_come_from_cls_then_json(tmp_path, beside, classes, label):
    rest = [("b.png", png(1)), ("b.cls", b"cat"), ("c.png", png(2)), ("c.cls", b"dog")]
    data = load_data(pack(tmp_path / "a.tar", [("a.png", png(0)), *beside, *rest]))
    assert data.spec.classes == classes
    assert data.labels.tolist() == [label, 0, 1]
    assert ("samples without a label: 1" in data.notes) == (label == -1)


def test_arrays_in_shards_are_arrays(tmp_path):
    values = np.random.default_rng(0).standard_normal((12, 3, 16))
    content = []
    for number, one in enumerate(values):
        file = io.BytesIO()
        np.save(file, one)
        content += [(f"{number}.npy", file.getvalue()), (f"{number}.json", json.dumps({"label": number % 2}).encode())]
    data = load_data(pack(tmp_path / "a.tar", content))
    assert data.digest() == load_data((values, np.arange(12) % 2)).digest()
    content[6] = "3.npy", b"\x80\x04cos\nmkdir\n"
    refuse(pack(tmp_path / "b.tar", content), "3.npy is broken or holds Python objects, which are never loaded")


def test_a_shard_cut_at_any_byte_is_refused_with_the_place_and_the_count(tmp_path):
    content = pack(tmp_path / "whole.tar", members(5)).read_bytes()
    used = 10 * 1024  # 5 samples of a header and a block for each of two members
    counts = []
    for length in [*range(512, used + 512, 256), used + 300]:
        path = tmp_path / f"{length}.tar"
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{length}\.tar: is truncated at byte \d+, after \d complete") as caught:
            load_data(path)
        place, whole = map(int, re.search(r"byte (\d+), after (\d)", str(caught.value)).groups())
        assert place <= length
        assert whole <= length // 2048 <= whole + 1
        counts.append(whole)
    assert counts == sorted(counts)
    (tmp_path / "whole.tar").write_bytes(content[:used + 512])
    assert len(load_data(tmp_path / "whole.tar")) == 5


def test_a_flipped_header_is_not_taken_for_the_end(tmp_path):
    path = pack(tmp_path / "a.tar", members(5))
    content = bytearray(path.read_bytes())
    content[4 * 1024 + 3] ^= 1
    path.write_bytes(content)
    refuse(path, "a.tar: is damaged at byte 4096, after 1 complete samples; fetch it again")


def test_a_packed_shard_and_a_file_that_is_none_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.add(__file__, "a.png")
    refuse(tmp_path / "a.tar", "a.tar: is not a plain tar file")
    (tmp_path / "b.tar").write_bytes(b"")
    refuse(tmp_path / "b.tar", "b.tar: is not a plain tar file")
    (tmp_path / "c.tar.gz").write_bytes(b"hello")
    refuse(tmp_path / "c.tar.gz", "is compressed; unpack it first")
    refuse(pack(tmp_path / "d.tar", []), "d.tar: holds no samples")


def test_a_doubled_member_is_refused_and_a_stem_in_two_shards_counted(tmp_path):
    refuse(pack(tmp_path / "a.tar", [*members(3), ("d/001.jpg", png(9))]),
           "sample d/001 has two members for its picture, the second is d/001.jpg")
    (tmp_path / "two").mkdir()
    for name in "ab":
        pack(tmp_path / "two" / f"{name}.tar", members(3))
    data = load_data(tmp_path / "two")
    assert len(data) == 6
    assert "samples whose name is also in another shard: 3; all are kept" in data.notes


def test_a_sample_without_a_picture_is_skipped_and_named_or_refused(tmp_path):
    some = [*members(19), ("odd.cls", b"1")]
    data = load_data(pack(tmp_path / "a.tar", some))
    assert len(data) == 19
    assert data.skipped == ["odd: the sample has no picture"]
    refuse(pack(tmp_path / "b.tar", [*members(5), ("odd.cls", b"1")]), "more than a tenth cannot be used: 1 of 6")


def test_names_with_dots_are_samples_of_their_own_where_no_shorter_one_is(tmp_path):
    rows = [(f"img.{number:03d}{end}", content) for number in range(12)
            for end, content in ((".png", png(number)), (".cls", str(number % 2).encode()))]
    data = load_data(pack(tmp_path / "a.tar", rows))
    assert data.values[:, 0, 0, 0].tolist() == list(range(12))
    assert data.labels.tolist() == [0, 1] * 6
    parts = [("000.png", png(0)), ("000.mask.png", png(1)), ("000.cls", b"1")]
    refuse(pack(tmp_path / "b.tar", parts), "sample 000 has two members for its picture, the second is 000.mask.png")
    refuse(pack(tmp_path / "c.tar", [*parts[1:], ("000.face.png", png(2))]), "sample 000 has two members")


def test_links_devices_and_hidden_members_are_never_followed(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(99))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in [*members(12), ("._000.png", b"junk"), ("../up.png", png(50)), ("/root.png", png(51))]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("c.png", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            tar.addfile(member)
    data = load_data(tmp_path / "a.tar")
    assert data.values[:, 0, 0, 0].tolist() == [*range(12), 50, 51]
    assert sorted(line.split(": ")[1] for line in data.skipped) == ["c.png", "h.png", "l.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "secret.png"]


def test_the_index_is_kept_and_made_anew_when_the_shard_changes(tmp_path, cache):
    path = pack(tmp_path / "a.tar", members(4))
    load_data(path)
    kept = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(kept) == 1
    load_data(path)
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == kept
    os.utime(pack(path, members(5)), ns=(0, 1))  # as large as before, for a tar file is filled up
    assert len(load_data(path)) == 5
    for file in cache.iterdir():
        file.write_text("{ damaged")
    assert len(load_data(path)) == 5


@pytest.mark.parametrize("change", ["cut", "other"])
def test_a_shard_that_changes_after_it_was_indexed_is_one_line(tmp_path, change):
    path = pack(tmp_path / "a.tar", members(20))
    os.utime(path, ns=(0, 0))
    data = load_data(path, reader="stream")
    content = path.read_bytes()
    path.write_bytes(content[:19 * 2048 + 520] if change == "cut" else content[2048:] + content[:2048])
    with pytest.raises(ValueError, match=r"a\.tar: changed since it was indexed; start again"):
        data.values[np.array([18])]


def header(name, size, kind=b"0", *, raw_size=None):
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[156:157] = kind
    block[124:136] = raw_size or b"%011o\0" % size
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:512]) + 256)
    return bytes(block)


SPARSE = (header("a", 512, b"x") + b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n".ljust(512, b"\0")
          + header("0.png", 512))
MEAN = {
    "a long name of 8 GB": header("@LongLink", 8**11 - 1, b"L"),
    "attributes of 8 GB": header("a", 8**11 - 1, b"x") + bytes(1024),
    "a name of negative size": header("@LongLink", 0, b"L", raw_size=b"\xff" * 11 + b"\x00"),
    "a member of negative size": header("0.png", 0, raw_size=b"\xff" * 10 + b"\xfc\x00"),
    "an unknown member of negative size": header("0", 0, b"Z", raw_size=b"\xff" * 10 + b"\xfc\x00"),
    "1,500 headers before one": (header("a", 512, b"x") + b"12 path=abc\n".ljust(512, b"\0")) * 1500,
    "a sparse map that is none": SPARSE + b"many\n".ljust(512, b"\0"),
    "a sparse map without end": SPARSE + b"9999\n".ljust(512, b"1"),
    "an old sparse map": header("0.png", 512, b"S")[:386] + b"x" * 100 + header("0.png", 512, b"S")[486:],
}


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("name", MEAN)
def test_a_header_that_says_what_none_can_is_one_line(tmp_path, name, after):
    path = tmp_path / "a.tar"
    good = pack(path, members(after)).read_bytes()[:2048 * after]
    path.write_bytes(good + MEAN[name])
    tracemalloc.start()
    try:
        says = r"a\.tar: (is damaged|is truncated|is not a plain tar|holds no)"
        with pytest.raises(ValueError, match=says) as caught:
            load_data(path)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"label": ' + "[" * 100_000, '{"label": ' + "9" * 5000 + "}", '"x"',
                                  '{"label": {"a": "' + "b" * 10_000 + '"}}'])
def test_a_description_that_is_none_is_one_line(tmp_path, text):
    path = pack(tmp_path / "a.tar", [*members(1), ("1.json", text.encode())])
    with pytest.raises(ValueError, match=r"a\.tar: 1\.json: (is not a JSON object|its label is)") as caught:
        load_data(path)
    assert len(str(caught.value)) < 600


def test_a_member_larger_than_any_picture_is_left_out(tmp_path):
    path = pack(tmp_path / "a.tar", members(12))
    with path.open("r+b") as file:
        file.seek(12 * 2048)
        file.write(header("z.png", 2**31))
        file.truncate(12 * 2048 + 512 + 2**31 + 1024)
    data = load_data(path, reader="stream")
    assert data.skipped == ["z: the sample has no picture", f"{path}: z.png: 2,147,483,648 bytes; at most "
                            "1,073,741,824 are read"]


def test_a_broken_picture_in_a_stream_is_stood_in_for_by_one_of_its_class(tmp_path):
    content = members(30)
    content[8] = content[8][0], content[8][1][:40]
    data = load_data(pack(tmp_path / "a.tar", content), reader="stream")
    for _ in range(2):
        assert data.values[np.array([4, 5])][:, 0, 0, 0].tolist() == [7, 5]
    assert list(data.values.failed) == [4]
    assert data.labels[4] == data.labels[7]
    assert np.array_equal(data.batch([4])[0], data.batch([7])[0])


def test_wrong_labels_are_refused_by_name(tmp_path):
    picture = ("a.png", png(0))
    for content, message in ((b"[1]", "a.json: is not a JSON object"), (b'{"label": 1.5}', "its label is 1.5"),
                             (b'{"label": true}', "its label is True"), (b"{", "is not a JSON object")):
        refuse(pack(tmp_path / "a.tar", [picture, ("a.json", content)]), message)
    refuse(pack(tmp_path / "b.tar", [picture, ("a.cls", b"\xff\xfe")]), "a.cls: is not text")


def test_colour_comes_through_a_shard_bit_for_bit(tmp_path):
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "PNG")
    data = load_data(pack(tmp_path / "a.tar", [("a.seg.PNG", file.getvalue())]))
    assert np.array_equal(data.values[0].transpose(1, 2, 0), COLOUR)
