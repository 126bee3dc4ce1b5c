"""Several files as one set: lists, patterns, text files, pages; and the formats that need something beside."""

import os

import numpy as np
import pytest
from PIL import Image, features

import ornstein as orn
from data_corpus import GREY, fill, save
from ornstein.data import load_data, pictures
from ornstein.training.reopen import reopen


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three cats and two dogs, each of one colour, in the folder that we are in."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["cat/1.png", "cat/2.png", "cat/3.jpg", "dog/1.png", "dog/2.png"]):
        save(tmp_path / "photos", name, np.full((8, 8, 3), 40 * number, np.uint8))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/some.txt").write_text("../photos/dog/2.png\r\n\n ../photos/cat/1.png \n", "utf-8-sig")
    return tmp_path / "photos"


@pytest.mark.parametrize(("source", "colours", "classes"), [
    (["photos/dog/2.png", "photos/cat/1.png"], [160, 0], ("cat", "dog")),
    ("lists/some.txt", [160, 0], ("cat", "dog")),
    ("photos/*/*.png", [0, 40, 120, 160], ("cat", "dog")),
    ("photos/**/*.jpg", [80], ()),
    ("photos/{cat,dog}/1.png", [0, 120], ("cat", "dog")),
    (["photos/cat/*.png", "photos/cat/3.jpg", "photos/cat/1.png"], [0, 40, 80], ())])
def test_several_files_are_one_set_in_their_order(photos, source, colours, classes):
    for given in (source, [photos.parent / one for one in source] if isinstance(source, list) else source):
        data = load_data(given)
        assert np.abs(data.values[:, 0, 4, 4].astype(int) - colours).max() <= 1  # one is a JPEG
        assert data.spec.classes == classes


@pytest.mark.parametrize(("source", "kind", "says"), [
    (["photos/cat/1.png", "b.png", "c.png"], FileNotFoundError,
     "photos/cat/1.png and 2 more: names 2 files that do not exist: b.png, c.png"),
    (["photos/cat", "photos/dog"], ValueError, "names a folder, photos/cat; give a single folder"),
    (["photos/cat/1.png", "lists/some.txt"], ValueError, "names files .png .txt; they must be pictures, or"),
    ("lists/*", ValueError, "names files .txt; they must be pictures"),
    ("lists/gone.txt", FileNotFoundError, "lists/gone.txt: names 1 file that does not exist: lists/photos/1.png"),
    ("lists/empty.txt", ValueError, "is empty; a .txt file lists pictures, one path per line"),
    ("photos/cat/1.png", ValueError, "is one picture; give several, or the folder that holds them")])
def test_what_cannot_be_a_set_says_why(photos, source, kind, says):
    (photos.parent / "lists/gone.txt").write_text("photos/1.png")
    (photos.parent / "lists/empty.txt").write_text("\n")
    with pytest.raises(kind, match=says.replace(".", r"\.")) as caught:
        load_data(source)
    assert "\n" not in str(caught.value)


def test_a_run_of_several_files_finds_them_again_from_anywhere(photos, monkeypatch):
    names = [os.path.relpath(path) for path in sorted(photos.rglob("*.png"))]
    options = {"widths": [8], "depths": [1]}
    trainer = orn.Trainer(names, images=8, batch=4, processes=1, options=options, snapshots=0, out="run")
    digest = trainer.data.digest()
    trainer.fit()
    monkeypatch.chdir(photos)
    assert reopen(photos.parent / "run").trained_on.digest() == digest
    monkeypatch.chdir(photos.parent)
    assert orn.Trainer(names, out="run", resume=True).settings.data == names
    with pytest.raises(ValueError, match=r"data names 90,000 files, more than run\.yaml can list"):
        orn.Settings(data=["a.png"] * 90_000)


def test_every_page_of_a_tiff_file_is_a_picture_but_not_its_thumbnails(tmp_path):
    pages = [Image.fromarray(np.roll(GREY, number)) for number in range(12)]
    pages[3].encoderinfo = {"tiffinfo": {254: 1}}  # a smaller version of another page
    save(tmp_path / "in/cat", "stack.tif", pages[0], save_all=True, append_images=pages[1:])
    fill(tmp_path / "in/dog", 1, shape=(8, 8))
    kept = [number for number in range(12) if number != 3]
    for reader in ("cache", "stream"):
        data = load_data(tmp_path / "in", reader=reader)
        assert np.array_equal(data.values[:11][:, 0], [np.roll(GREY, number) for number in kept])
        assert data.labels.tolist() == [0] * 11 + [1]
        assert data.names[:4] == [f"cat/stack.tif page {number}" for number in (1, 2, 3, 5)]
    assert "TIFF files of several pages: 1; each of their 11 pages is a picture" in data.notes
    assert np.array_equal(load_data(tmp_path / "in/cat/stack.tif").values, data.values[:11])


HALVES = np.zeros((32, 16, 3), np.uint8)
HALVES[:16] = 255


def white_above_black(folder):
    data = load_data(folder)
    assert data.spec.shape == (3, 32, 16)
    return data.values[0, :, 2:14].min() > 200 and data.values[0, :, 18:].max() < 50


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
def test_avif_is_read_like_any_other(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path, "a.avif", np.rot90(HALVES).copy(), quality=100, exif=exif)
    assert white_above_black(tmp_path)


def test_heic_says_what_it_needs_or_is_read(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"1")
    if "HEIF" in pictures._supported_formats():
        save(tmp_path, "a.heic", HALVES, quality=90)
        assert white_above_black(tmp_path)
        return
    needs = r'needs pillow-heif: pip install "ornstein\[heic\]"'
    with pytest.raises(ValueError, match=rf"none of the 1 files .* \.heic {needs}"):
        load_data(tmp_path)
    fill(tmp_path, 1)
    assert load_data(tmp_path).skipped == ['a.heic: needs pillow-heif: pip install "ornstein[heic]"']


def test_a_run_that_lies_among_the_pictures_is_not_learned_and_a_name_mistyped_is_put_right(tmp_path):
    fill(tmp_path / "icons", 4)
    run = tmp_path / "icons/run"
    fill(run / "previews", 2)
    for name in ("run.yaml", "metrics.jsonl"):
        (run / name).write_text("")
    data = load_data(tmp_path / "icons")
    assert (len(data), data.skipped) == (4, ["run: the folder of a run"])
    with pytest.raises(FileNotFoundError, match=r"no such folder or file \(did you mean 'icons'\?\)"):
        load_data(tmp_path / "icon")
