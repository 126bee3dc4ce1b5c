"""What a folder of pictures becomes: exact pixels for every mode, classes, sizes, and what is skipped or refused."""

import os
import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_corpus import COLOUR, GREY, encoded, fill, png_bomb, save
from ornstein.data import load_data


def pixels(folder, **options):
    """Load a folder of one picture and return it as (H, W, C)."""
    data = load_data(folder, **options)
    assert len(data) == 1
    assert data.values.dtype == np.uint8
    assert data.skipped == []
    return data.values[0].transpose(1, 2, 0)


def refuse(folder, *messages, kind=ValueError, **options):
    with pytest.raises(kind, match=".*".join(map(re.escape, messages))) as caught:
        load_data(folder, **options)
    assert "\n" not in str(caught.value)


def white_under(colour, alpha):
    return np.rint(255 + (colour.astype(float) - 255) * alpha.astype(float) / 255)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.tif", "a.TIFF", "a.webp"])
def test_colour_is_bit_exact_in_every_lossless_format(tmp_path, name):
    save(tmp_path, name, COLOUR, **({"lossless": True} if name.endswith("webp") else {}))
    assert np.array_equal(pixels(tmp_path), COLOUR)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_grey_is_bit_exact_in_one_channel(tmp_path, name):
    save(tmp_path, name, GREY)
    spec = load_data(tmp_path).spec
    assert (spec.shape, spec.low, spec.high, spec.levels) == ((1, 8, 8), 0, 255, 256)
    assert np.array_equal(pixels(tmp_path)[:, :, 0], GREY)


@pytest.mark.parametrize("quality", [95, 30])
def test_a_jpeg_of_the_right_size_is_what_pillow_decodes(tmp_path, quality):
    path = save(tmp_path, "a.jpg", COLOUR, quality=quality)
    assert np.array_equal(pixels(tmp_path), np.asarray(Image.open(path)))


def test_one_bit_becomes_black_and_white(tmp_path):
    save(tmp_path, "a.png", Image.fromarray(GREY > 90))
    assert np.array_equal(pixels(tmp_path)[:, :, 0], np.where(GREY > 90, 255, 0))


@pytest.mark.parametrize(("kind", "name"), [("<u2", "a.png"), ("<u2", "a.tif"), (">u2", "a.tif"), ("<i4", "a.tif")])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, kind, name):
    values = GREY.astype(np.int64) * 257 + np.where(GREY > 90, 128, -128) * (GREY > 0)
    save(tmp_path, name, values.astype(kind))
    assert np.array_equal(pixels(tmp_path)[:, :, 0], GREY)
    assert np.array_equal(np.rint(values / 257), GREY)


def test_transparent_pixels_lie_on_white(tmp_path):
    alpha = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    alpha[0, :2] = 0, 255
    save(tmp_path / "rgba", "a.png", np.dstack([COLOUR, alpha]))
    got = pixels(tmp_path / "rgba")
    assert np.abs(got - white_under(COLOUR, alpha[:, :, None])).max() <= 1
    assert got[0, 0].tolist() == [255] * 3
    assert np.array_equal(got[0, 1], COLOUR[0, 1])
    save(tmp_path / "la", "a.png", Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]))
    got = pixels(tmp_path / "la")[:, :, 0]
    assert np.abs(got - white_under(GREY, alpha)).max() <= 1
    assert got[0, 0] == 255
    assert got[0, 1] == GREY[0, 1]


def test_a_transparent_colour_turns_white_in_every_mode(tmp_path):
    clear = int(GREY[2, 2])
    expected = np.where(clear == GREY, 255, GREY)
    save(tmp_path / "l", "a.png", GREY, transparency=clear)
    assert np.array_equal(pixels(tmp_path / "l")[:, :, 0], expected)
    save(tmp_path / "i16", "a.png", GREY.astype(np.uint16) * 257, transparency=clear * 257)
    assert np.array_equal(pixels(tmp_path / "i16")[:, :, 0], expected)
    save(tmp_path / "rgb", "a.png", COLOUR, transparency=tuple(map(int, COLOUR[2, 2])))
    expected = COLOUR.copy()
    expected[2, 2] = 255
    assert np.array_equal(pixels(tmp_path / "rgb"), expected)


@pytest.mark.parametrize(("name", "clear"), [("a.png", False), ("a.gif", False), ("a.tif", False), ("a.bmp", False),
                                             ("a.png", True), ("a.gif", True)])
def test_a_palette_becomes_its_colours(tmp_path, name, clear):
    colours = COLOUR.reshape(64, 3)
    index = np.random.default_rng(2).permutation(64).reshape(8, 8).astype(np.uint8)
    picture = Image.fromarray(index)
    picture.putpalette(colours.tobytes())
    save(tmp_path, name, picture, **({"transparency": 5} if clear else {}))
    expected = colours[index]
    if clear:
        expected[index == 5] = 255
    assert np.array_equal(pixels(tmp_path), expected)


def test_cmyk_becomes_rgb(tmp_path):
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[:4, :, 0], inks[4:, :, 1], inks[:, 4:, 3] = 255, 255, 255
    save(tmp_path, "a.tif", Image.fromarray(inks, "CMYK"))
    got = pixels(tmp_path)
    assert got[0, 0].tolist() == [0, 255, 255]
    assert got[7, 0].tolist() == [255, 0, 255]
    assert not got[:, 4:].any()


TURNS = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
         6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_the_exif_orientation_is_applied_once(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path, name, COLOUR, exif=exif, **({"lossless": True} if name.endswith("webp") else {}))
    assert np.array_equal(pixels(tmp_path), TURNS[orientation](COLOUR))


def test_a_turned_jpeg_that_is_not_square_is_cropped_after_turning(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = np.zeros((8, 16, 3), np.uint8)
    tall[:, 4:12] = 255
    save(tmp_path, "a.jpg", tall, exif=exif, quality=100)
    assert pixels(tmp_path, size=8).min() > 200


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_an_animation_gives_its_first_frame(tmp_path, name):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    options = {"lossless": True} if name.endswith("webp") else {}
    save(tmp_path, name, frames[0], save_all=True, append_images=frames[1:], **options)
    assert Image.open(tmp_path / name).n_frames == 2
    assert np.array_equal(pixels(tmp_path)[:, :, 0], GREY)


@given(st.integers(4, 40), st.integers(4, 40), st.sampled_from([4, 8, 13]))
def test_a_resize_keeps_the_middle_and_leaves_the_right_size_alone(tmp_path_factory, width, height, size):
    folder = tmp_path_factory.mktemp("one")
    source = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    save(folder, "a.png", source)
    got, short = pixels(folder, size=size), min(width, height)
    top, left = (height - short) // 2, (width - short) // 2
    middle = source[top:top + short, left:left + short]
    if short == size:
        assert np.array_equal(got, middle)
    elif (width - height) % 2 == 0:
        scale = size / short
        whole = Image.fromarray(source).resize((size, size), Image.Resampling.LANCZOS,
                                               box=(left, top, left + short, top + short))
        assert np.array_equal(got, np.asarray(whole))
        assert scale != 1


def test_a_large_jpeg_keeps_its_look_when_reduced(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 1024).astype(np.uint8)[None, :, None], (1024, 1024, 3))
    save(tmp_path, "a.jpg", ramp.copy(), quality=95)
    expected = np.linspace(0, 255, 1024).reshape(32, 32).mean(1)
    assert np.abs(pixels(tmp_path, size=32)[5:-5, 2:-2].astype(float) - expected[None, 2:-2, None]).max() < 4


def test_a_strip_of_millions_of_pixels_is_never_enlarged_whole(tmp_path):
    save(tmp_path, "a.png", np.full((4, 60_000), 7, np.uint8))
    assert (pixels(tmp_path, size=4096) == 7).all()


def test_one_square_size_up_to_64_is_kept_as_it_is(tmp_path):
    fill(tmp_path, 3, shape=(13, 13))
    data = load_data(tmp_path)
    assert data.spec.shape == (1, 13, 13)
    assert not any("size" in note for note in data.notes)


@pytest.mark.parametrize(("shapes", "size", "number"), [
    ([(13, 13), (13, 14)], "8x8", "2 different sizes"), ([(100, 100)], "64x64", "1 size"),
    ([(5, 5), (6, 6)], "8x8", "2 different sizes"), ([(20, 90), (90, 40), (60, 60)], "40x40", "3 different sizes"),
    ([(600, 800), (1200, 1601)], "85x64", "2 different sizes"), ([(250, 75)], "64x213", "1 size"),
    ([(100, 401)], "64x64", "1 size"),  # longer than any that keeps its shape
])
def test_a_size_is_chosen_and_said(tmp_path, shapes, size, number):
    for place, shape in enumerate(shapes):
        save(tmp_path, f"{place}.png", np.zeros(shape, np.uint8))
    data = load_data(tmp_path)
    assert "{2}x{1}".format(*data.spec.shape) == size
    assert f"the pictures have {number}: {size} was chosen; --size sets another" in data.notes


def test_cropping_reducing_and_enlarging_are_counted(tmp_path):
    for place, shape in enumerate([(16, 16), (16, 20), (30, 30), (8, 32)]):
        save(tmp_path, f"{place}.png", np.zeros(shape, np.uint8))
    save(tmp_path, "tall.png", np.zeros((20, 16), np.uint8))
    assert load_data(tmp_path, size=16).notes[:3] == [
        "3 of 5 pictures (2 wider, 1 taller) were cropped to their middle square: 38% of their pixels are lost on "
        "average (--fit pad keeps them all)",
        "1 of 5 pictures were reduced to 16 pixels", "1 of 5 pictures were enlarged to 16 pixels"]


def test_one_colour_picture_makes_three_channels_of_all(tmp_path):
    save(tmp_path, "a.png", GREY)
    save(tmp_path, "b.png", COLOUR)
    values = load_data(tmp_path).values
    assert np.array_equal(values, np.stack([np.dstack([GREY] * 3), COLOUR]).transpose(0, 3, 1, 2))


def test_sub_folders_are_classes_and_the_rest_has_none(tmp_path):
    fill(tmp_path, 2, "dog/{}.png")
    fill(tmp_path, 3, "cat/deeper/still/{}.png")
    fill(tmp_path, 1, "loose{}.png")
    (tmp_path / "empty").mkdir()
    data = load_data(tmp_path, classes=True)
    assert data.spec.classes == ("cat", "dog")
    assert data.labels.tolist() == [-1, 0, 0, 0, 1, 1]
    assert "pictures beside the class folders, without a class: 1" in data.notes
    assert load_data(tmp_path / "cat").spec.classes == ()
    assert data.spec.name == tmp_path.name


def test_one_sub_folder_is_no_class(tmp_path):
    fill(tmp_path, 2, "train/{}.png")
    data = load_data(tmp_path)
    assert data.spec.classes == ()
    assert data.labels.tolist() == [-1, -1]
    refuse(tmp_path, "has no labels", classes=True)


def test_the_order_and_the_digest_are_the_same_each_time(tmp_path):
    for name in ("b/2.png", "a/10.png", "a/9.png", "z.png", "c.png"):
        fill(tmp_path, 1, name, (8, 8))
        save(tmp_path, name, np.full((8, 8), sum(map(ord, name)) % 256, np.uint8))
    data = load_data(tmp_path)
    order = [sum(map(ord, name)) % 256 for name in ("c.png", "z.png", "a/10.png", "a/9.png", "b/2.png")]
    assert data.values[:, 0, 0, 0].tolist() == order
    assert all(load_data(tmp_path).digest() == data.digest() for _ in range(3))
    changed = np.full((8, 8), order[0], np.uint8)
    changed[3, 3] += 1
    save(tmp_path, "c.png", changed)
    assert load_data(tmp_path).digest() != data.digest()


def test_hidden_files_are_ignored_and_others_named(tmp_path):
    fill(tmp_path, 4)
    fill(tmp_path, 1, ".hidden{}.png")
    fill(tmp_path, 1, ".git/{}.png")
    for number in range(6):
        (tmp_path / f"n{number}.txt").write_text("hello")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    data = load_data(tmp_path)
    assert len(data) == 4
    assert set(data.skipped) == {f"n{i}.txt: not a picture" for i in range(6)} | {
        "link: a link to a folder that is read already"}
    assert data.notes[-1].startswith("files skipped: 7: ")
    assert data.notes[-1].endswith(", and 2 more")


BROKEN = {
    "cut.png": (encoded("PNG")[:9000], ""), "cut.jpg": (encoded("JPEG")[:3000], "truncated"),
    "cut.webp": (encoded("WEBP")[:2000], ""), "cut.bmp": (encoded("BMP")[:6000], "truncated"),
    "cut.gif": (encoded("GIF")[:2000], "truncated"), "cut.tif": (encoded("TIFF")[:6000], ""),
    "zero.png": (b"", "the file is empty"), "text.jpg": (b"hello\nworld", "not a readable picture"),
    "vector.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable picture"),
    "tiny.bmp": (encoded("BMP", 1), "1x1 is smaller than 4 pixels"),
    "thin\nname.png": (encoded("PNG", 3), "3x3 is smaller than 4 pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_skipped_with_its_reason_and_changes_nothing_else(tmp_path, name):
    content, reason = BROKEN[name]
    fill(tmp_path, 10, shape=(8, 8))
    before = load_data(tmp_path)
    (tmp_path / name).write_bytes(content)
    after = load_data(tmp_path)
    shown = name.replace("\n", "\\n")
    assert len(after.skipped) == 1
    assert after.skipped[0].startswith(f"{shown}: ")
    assert reason in after.skipped[0]
    assert f"files skipped: 1: {shown}: " in after.notes[-1]
    assert "\n" not in after.notes[-1]
    assert after.digest() == before.digest()
    assert after.spec == before.spec
    for number in range(2):
        (tmp_path / f"fill{number}.png").unlink()
    refuse(tmp_path, "more than a tenth cannot be used: 1 of 9 failed", shown, reason)


def test_a_cut_of_any_length_is_whole_or_refused(tmp_path):
    for kind, name in (("PNG", "a.png"), ("JPEG", "a.jpg"), ("WEBP", "a.webp"), ("GIF", "a.gif"), ("TIFF", "a.tif")):
        folder, content = tmp_path / kind, encoded(kind, 8)
        folder.mkdir()
        (folder / name).write_bytes(content)
        whole = pixels(folder)
        for length in range(0, len(content), max(1, len(content) // 40)):
            (folder / name).write_bytes(content[:length])
            try:
                got = pixels(folder)
            except ValueError:
                refuse(folder, "no picture can be used")
            else:
                assert np.array_equal(got, whole)


def test_what_pillow_warns_of_becomes_one_note(tmp_path):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x09\0"
    save(tmp_path, "a.jpg", COLOUR, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notes = load_data(tmp_path).notes
    assert any(note.startswith("Pillow warned of odd files, warnings: ") for note in notes)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_an_8_bit_scale_are_skipped_and_not_clipped(tmp_path, dtype):
    save(tmp_path, "a.tif", GREY.astype(dtype) * 1000)
    refuse(tmp_path, "no picture can be used", "scale" if dtype == np.float32 else "outside 0..65535")


def test_the_first_three_failures_are_named(tmp_path):
    fill(tmp_path, 6)
    for number in range(4):
        (tmp_path / f"bad{number}.png").write_text("hello")
    refuse(tmp_path, f"{tmp_path}: more than a tenth cannot be used: 4 of 10 failed: bad0.png (not a readable "
           "picture), bad1.png (not a readable picture), bad2.png (not a readable picture); fix")


@pytest.mark.parametrize("side", [13_500, 10_000, 5_001])  # of Pillow's own limits the first is above both
def test_a_bomb_is_refused_by_its_header(tmp_path, side, decoded):
    png_bomb(tmp_path / "bomb.png", side)
    assert (tmp_path / "bomb.png").stat().st_size < 500_000
    refuse(tmp_path, "no picture can be used: 1 of 1 failed: bomb.png (")
    assert not decoded
    fill(tmp_path, 8)
    refuse(tmp_path, "1 of 9 failed")
    fill(tmp_path, 9)
    assert len(load_data(tmp_path)) == 9


def test_a_picture_of_25_megapixels_is_still_read(tmp_path):
    png_bomb(tmp_path / "large.png", 5000)
    assert not pixels(tmp_path, size=8).any()


def test_a_pipe_and_a_dead_link_are_skipped(tmp_path):
    fill(tmp_path, 20)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dead.png").symlink_to(tmp_path / "nowhere")
    assert load_data(tmp_path).skipped == ["dead.png: not a regular file", "pipe.png: not a regular file"]


def test_names_that_no_text_can_hold_are_shown_as_escapes(tmp_path):
    for name in (b"caf\xe9", b"b"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
        fill(tmp_path, 2, os.fsdecode(name) + "/{}.png")
    assert load_data(tmp_path).spec.classes == ("b", "caf\\udce9")


def test_a_missing_an_empty_and_a_pictureless_folder_have_each_their_message(tmp_path):
    refuse(tmp_path / "nowhere", "no such folder", kind=FileNotFoundError)
    refuse(tmp_path, f"{tmp_path}: the folder is empty")
    (tmp_path / "notes.txt").write_text("hello")
    refuse(tmp_path, "none of the 1 files in the folder is a picture (.png .jpg")
    (tmp_path / "notes").write_text("hello")
    refuse(tmp_path / "notes", "is not a folder; give a folder of pictures, or a .npy, .npz, .parquet or .tar file")
    (tmp_path / "notes").unlink()
    (tmp_path / "a.png").write_text("hello")
    refuse(tmp_path, "no picture can be used: 1 of 1 failed: a.png (not a readable picture)")


@pytest.mark.parametrize("size", [0, 3, -8, 5000, 8.0, True, "8", "48x", "0x32", "48x32x3", "8x3", "-8x8", "8X8"])
def test_a_wrong_size_is_refused(tmp_path, size):
    fill(tmp_path, 1)
    refuse(tmp_path, f"size is {size!r}; it must be a whole number 4..4096", size=size)


def test_rows_are_called_by_the_names_of_their_files(tmp_path):
    """Through what is skipped and what is held out, a name stays with its pixels."""
    for number in range(40):
        save(tmp_path, f"{'ab'[number % 2]}/{number:02}.png", np.full((8, 8, 3), number, np.uint8))
    (tmp_path / "a/00.png").write_bytes(b"broken")
    for reader in ("cache", "stream"):
        for part in load_data(tmp_path, reader=reader).split():
            shown = np.asarray(part.values)[:, 0, 0, 0]
            named = [int(name[2:4]) for name in part.names]
            assert [name[:2] for name in part.names] == [f"{'ab'[number % 2]}/" for number in named]
            assert [shown == number for shown, number in zip(shown, named, strict=True)].count(False) <= (
                reader == "stream")  # which lets another stand in for the broken one
