"""Pictures as they are: oblong ones, transparency, and 16 bits."""

import numpy as np
import pytest
from PIL import Image

import ornstein as orn
from data_corpus import COLOUR, fill, save
from ornstein.data import load_data
from ornstein.figures import pictures
from ornstein.training.reopen import reopen


def test_small_pictures_of_one_oblong_size_are_kept_as_they_are(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path, "a.png", COLOUR[:, :5])
    save(tmp_path, "b.tif", np.rot90(COLOUR[:, :5]).copy(), exif=turned)  # lies on its side in the file
    for reader in ("cache", "stream"):
        data = load_data(tmp_path, reader=reader)
        assert np.array_equal(data.values[:], np.stack([COLOUR[:, :5].transpose(2, 0, 1)] * 2))
    assert not any("size" in note or "crop" in note for note in load_data(tmp_path).notes)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_size_is_width_by_height_and_its_middle_is_kept(tmp_path, name, turned):
    """Of 60 x 20 for 16 x 8 the middle 40 columns, which alone are white."""
    wide, exif = np.zeros((20, 60, 3), np.uint8), Image.Exif()
    wide[:, 10:50] = 255
    if turned:
        exif[0x0112] = 6
    save(tmp_path, name, np.rot90(wide).copy() if turned else wide, exif=exif)
    data = load_data(tmp_path, size="16x8")
    assert data.spec.shape == (3, 8, 16)
    assert data.values.min() > 200
    assert any(note.startswith("1 of 1 pictures were cropped to the shape of 16x8") and "33% of" in note
               for note in data.notes)


@pytest.mark.parametrize(("fit", "size", "row", "note"), [
    ("cut", 16, [50] * 4 + [100] * 8 + [150] * 4, "cropped to their middle square: 33%"),
    ("pad", "32x16", [255] * 4 + [50] * 8 + [100] * 8 + [150] * 8 + [255] * 4, "padded with white to 32x16, 25% of it"),
    ("stretch", "24x8", [50] * 8 + [100] * 8 + [150] * 8, "stretched to 24x8, by up to 2 times")])
def test_what_becomes_of_another_shape_is_chosen(tmp_path, fit, size, row, note):
    """Three stripes of 8 columns, 24 x 16."""
    save(tmp_path, "a.png", np.tile(np.repeat([50, 100, 150], 8).astype(np.uint8), (16, 1)))
    data = load_data(tmp_path, size=size, fit=fit)
    assert (data.values[0, 0] == row).all()
    assert any(note in line for line in data.notes)


def test_a_padded_picture_is_whole_in_the_middle(tmp_path):
    save(tmp_path, "a.png", np.full((10, 20), 7, np.uint8))
    values = load_data(tmp_path, size=40, fit="pad").values[0, 0]
    assert (values[10:30] == 7).all()
    assert (values[:10] == 255).all()
    assert (values[30:] == 255).all()


def test_every_colour_of_every_opacity_comes_back_within_a_level(tmp_path):
    """Laid over black and over white, as Pillow does it; and what is written is read as what was learned."""
    colour, opacity = np.meshgrid(*[np.arange(256)] * 2)
    source = np.dstack([colour, 255 - colour, colour // 2, opacity]).astype(np.uint8)
    save(tmp_path / "in", "a.png", source)
    data = load_data(tmp_path / "in", size=256, alpha=True)
    assert (data.spec.mode, data.spec.shape, data.spec.bins) == ("RGBA", (4, 256, 256), 256)
    x = data.batch([0])[0]
    pictures.write(data.spec, x, None, tmp_path / "out", {})
    again = Image.open(tmp_path / "out/00000.png")
    for ground in ("black", "white"):
        over = [Image.alpha_composite(Image.new("RGBA", (256, 256), ground), one)
                for one in (Image.fromarray(source), again)]
        assert np.abs(np.subtract(*(np.asarray(one).astype(int) for one in over))).max() <= 1
    shown = pictures.picture(data.spec, x)[0]
    assert np.abs(shown.astype(int) - np.asarray(over[0])[..., :3]).max() <= 1  # on white
    assert np.array_equal(load_data(tmp_path / "out", size=256, alpha=True).values, data.values)


def test_no_colour_of_what_is_transparent_bleeds_into_the_rest(tmp_path):
    """A green disc, and red where nothing is seen: what is resized is green alone."""
    across = np.hypot(*np.mgrid[-31.5:32, -31.5:32])
    source = np.where(across[..., None] < 20, [0, 200, 0, 255], [255, 0, 0, 0]).astype(np.uint8)
    save(tmp_path, "a.png", source)
    for fit, size in (("cut", 16), ("pad", "24x16"), ("stretch", "24x16")):
        data = load_data(tmp_path, size=size, alpha=True, fit=fit)
        got = data.spec.arrange(data.values)[0]
        assert not got[[0, 2]].any()
        assert (got[1][got[3] > 128] > 190).all()
        assert (got[3, :, 0] < 3).all()  # also what was padded


@pytest.mark.parametrize("opacity", [None, 255, 128])
def test_transparency_that_is_the_same_everywhere_is_dropped_and_said(tmp_path, opacity):
    for number in range(3):
        layers = [COLOUR] if opacity is None else [COLOUR, np.full((8, 8), opacity, np.uint8)]
        save(tmp_path, f"{number}.png", np.dstack(layers))
    data = load_data(tmp_path, alpha=True)
    assert (data.spec.shape, data.spec.mode) == ((3, 8, 8), "")
    assert np.array_equal(data.values, load_data(tmp_path).values)
    assert any("alpha was dropped" in note for note in data.notes)


def test_grey_with_transparency_is_colour_with_transparency(tmp_path):
    grey, opacity = COLOUR[..., 0], np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    save(tmp_path, "a.png", Image.merge("LA", [Image.fromarray(grey), Image.fromarray(opacity)]))
    save(tmp_path, "b.png", COLOUR)
    for reader in ("cache", "stream"):
        data = load_data(tmp_path, alpha=True, reader=reader)
        assert np.array_equal(data.values[[0]][0, 3], opacity)
        assert np.array_equal(data.values[[1]][0], [*COLOUR.transpose(2, 0, 1), np.full((8, 8), 255)])
        assert "1 of 2 pictures have transparency, which is learned as a fourth channel" in data.notes


@pytest.mark.parametrize("reader", ["cache", "stream"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, reader):
    """Every one of 65,536 greys is read, decoded and written as it was; 8-bit pictures beside them are scaled."""
    greys = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for name in ("a.png", "b.tif"):
        save(tmp_path / "in", name, greys)
    save(tmp_path / "in", "c.png", np.arange(256, dtype=np.uint8)[None].repeat(256, 0))
    data = load_data(tmp_path / "in", depth=16, size=256, reader=reader)
    assert (data.spec.mode, data.spec.levels, data.values.dtype) == ("I;16", 65536, np.uint16)
    assert (data.values[:2] == greys).all()
    assert (data.values[[2]][0, 0] == 257 * np.arange(256)).all()
    pictures.write(data.spec, data.batch([0])[0], None, tmp_path / "out", {})
    with Image.open(tmp_path / "out/00000.png") as drawn:
        assert drawn.mode == "I;16"
        assert np.abs(np.asarray(drawn).astype(int) - greys).max() == 0


def test_sixteen_bits_are_resized_and_padded_as_eight_are(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, 0)
    save(tmp_path / "deep", "a.png", ramp)
    save(tmp_path / "flat", "a.png", np.rint(ramp / 257).astype(np.uint8))
    for options in ({"size": 16}, {"size": "32x16"}, {"size": "32x16", "fit": "pad"}):
        deep, flat = (load_data(tmp_path / name, depth=depth, **options).values.astype(int)
                      for name, depth in (("deep", 16), ("flat", 8)))
        assert np.abs(deep - 257 * flat).max() <= 300


def test_few_of_the_sixteen_bits_are_learned_on_their_own_scale(tmp_path):
    """As of a camera of 12 bits; and kept pictures are opened as what they were."""
    draw = np.random.default_rng(0)
    for number in range(3):
        save(tmp_path / "in", f"{number}.png", draw.integers(0, 4096, (16, 16), dtype=np.uint16))
    data = load_data(tmp_path / "in", depth=16)
    assert (data.spec.mode, data.spec.least >= 0, data.spec.most <= 4095) == ("I;16", True, True)
    x = data.batch([0])[0]
    assert x.max() - x.min() > 1.9
    assert np.array_equal(data.spec.decode(x)[0], data.values[0])


@pytest.mark.parametrize(("picture", "options", "says"), [
    (COLOUR, {"depth": 16}, "1 of 1 pictures are in colour, and 16 bits are kept only for grey ones; leave depth out"),
    (COLOUR[..., 0], {"depth": 12}, "depth is 12; it must be 8 or 16"),
    (COLOUR[..., 0], {"depth": 16, "alpha": True}, "leave one of the two out")])
def test_bits_that_are_not_there_are_refused(tmp_path, picture, options, says):
    save(tmp_path, "a.png", picture)
    with pytest.raises(ValueError, match=says):
        load_data(tmp_path, **options)


def test_eight_bits_that_were_taken_for_sixteen_are_said(tmp_path):
    save(tmp_path, "a.png", COLOUR[..., 0].copy())
    data = load_data(tmp_path, depth=16)
    assert data.values.dtype == np.uint8
    assert "no picture has 16 bits: they are read as 8" in data.notes


@pytest.mark.parametrize(("options", "says"), [
    ({"fit": "pad"}, "fit 'pad' does not apply"), ({"depth": 16}, "depth 16 does not apply"),
    ({"alpha": True}, "alpha True does not apply"),
    ({"fit": "crop"}, "fit 'crop' is unknown"), ({"alpha": 1}, "alpha is 1; it must be True or False")])
def test_options_of_picture_files_are_for_picture_files(options, says):
    with pytest.raises(ValueError, match=says):
        load_data(np.zeros((20, 8, 8), np.uint8), **options)


def test_an_oblong_transparent_run_is_drawn_traced_and_opened_again(tmp_path):
    fill(tmp_path / "in", 30, shape=(9, 14, 4))
    out = tmp_path / "run"
    model = orn.Trainer(str(tmp_path / "in"), size="12x8", alpha=True, fit="stretch", images=16, batch=8, processes=1,
                        options={"widths": [8], "depths": [1]}, snapshots=0, out=out).fit()
    assert "\nsize: 12x8\nfit: stretch\nalpha: true\n" in (out / "run.yaml").read_text()
    pictures.write(model.data, orn.sample(model, 2, nfe=2), None, tmp_path / "drawn", {})
    with Image.open(tmp_path / "drawn/00001.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGBA", (12, 8))
    opened = reopen(out, data=str(tmp_path / "drawn"))
    assert opened.evaluation_data is not None
    assert opened.evaluation_data.spec.shape == opened.trained_on.spec.shape == (4, 8, 12)
