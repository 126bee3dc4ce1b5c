"""What shows samples: sheets, films, formats, the training pictures next to one, and progress."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image, ImageSequence

import ornstein as orn
from ornstein import files
from ornstein.diffusion.samplers import Frame
from ornstein.figures import formats, pictures
from ornstein.request import Request
from test_figures import SPECS, model_of


@pytest.fixture
def grey(tmp_path):
    """A model of grey pictures, and the path of its file."""
    model = model_of("grey")
    orn.save(model, tmp_path / "m.safetensors")
    return model


def shades(model: orn.NetworkDenoiser, request: Request) -> np.ndarray:
    """The grey pictures (count, H, W) that a request draws."""
    return pictures.picture(model.data, request.draw(model))[..., 0]


def test_a_film_has_a_frame_a_step_and_ends_with_the_samples(grey, command):
    assert command("sample", "m.safetensors", "--save-steps", "f.gif", "--out", "x.npz", "--nfe", 6, "--count", 6,
                   "--seed", 3)[0] == 0
    request = Request(6, seed=3, nfe=6)
    assert_array_equal(np.load("x.npz")["x"], grey.data.decode(request.draw(grey))[:, 0])
    film = Image.open("f.gif")
    frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(film)]
    assert len(frames) == len(list(request.frames(grey))) == 7
    last = pictures.show(grey.data, request.draw(grey), 3, grey.data.cycle(6), side=640)
    assert_array_equal(frames[-1], np.asarray(last.convert("L")))
    film.seek(0)
    assert json.loads(film.info["comment"])["seed"] == 3


def test_of_a_long_walk_moments_are_shown_that_are_evenly_apart(tmp_path):
    """Every eighth of 501, and the last; each at the scale of the data."""
    schedule, shade = orn.Exploding(), torch.linspace(-1, 1, 501)
    frames = []
    for number, time in enumerate(np.linspace(1, 0, 501)):
        level = schedule.level(float(time))
        z = shade[number] * level.radius.clamp(min=1).float() * torch.ones(1, 1, 4, 4)
        frames.append(Frame(float(time), z, orn.Estimate.from_v(0 * z, z, level)))
    last = orn.save_film(frames, tmp_path / "f.gif", scale=1)
    assert torch.equal(last, frames[-1].latent)
    film = ImageSequence.Iterator(Image.open(tmp_path / "f.gif"))
    film = [int(np.asarray(frame.convert("L"))[8, 8]) for frame in film]
    assert_array_equal(film, np.rint(127.5 * (torch.cat([shade[::8], shade[-1:]]).numpy() + 1)))


def test_a_cell_of_a_grid_is_what_its_options_draw(grey, command):
    assert command("sample", "m.safetensors", "--grid", "nfe=2,5", "guidance=1,3", "--label", "1", "--scale", 1,
                   "--out", "g.png", "--seed", 4)[0] == 0
    image = Image.open("g.png")
    there = np.lib.stride_tricks.sliding_window_view(np.asarray(image.convert("L")), (8, 8))
    places = {}
    for nfe in (2, 5):
        for guidance in (1.0, 3.0):
            (one,) = shades(grey, Request(1, label="1", nfe=nfe, guidance=guidance, seed=4))
            ((row, column),) = np.argwhere((there == one).all((2, 3)))
            places[nfe, guidance] = row, column
    assert places[2, 1.0][0] == places[2, 3.0][0] < places[5, 1.0][0]
    assert places[2, 1.0][1] == places[5, 1.0][1] < places[2, 3.0][1]
    facts = json.loads(image.text["ornstein"])
    assert facts["grid"] == {"nfe": ["2", "5"], "guidance": ["1", "3"]}


@pytest.mark.parametrize(("name", "words", "says"), [
    ("grey", ["--grid", "nfe=2", "seed=1", "label=0"], "options are nfe, seed, label; a sheet has one option for its"),
    ("grey", ["--grid", "nfe=2,3", "seed=1,2", "--count", 101], "would have 404 samples, and at most 400"),
    ("grey", ["--grid", "nef=2"], "option of --grid 'nef' is unknown; did you mean 'nfe'?"),
    ("grey", ["--grid", "nfe=2,3", "--nfe", 4], "nfe is given as --nfe and in --grid; leave one of them out"),
    ("grey", ["--grid", "nfe=2", "nfe=3"], "--grid has nfe twice; name all of its values at once: nfe=...,..."),
    ("grey", ["--grid", "seed=0,0"], "seed has 0 twice; name each value once"),
    ("grey", ["--grid", "nfe=2,2"], "nfe has 2 twice; name each value once"),
    ("grey", ["--grid", "nfe=2,many"], "--grid has 'nfe=2,many'; values of nfe are whole numbers separated by commas"),
    ("grey", ["--grid"], "--grid has no option; write one or two, such as nfe=5,10,20 guidance=1,2"),
    ("grey", ["--grid", "nfe"], "--grid has 'nfe'; write option=value,value such as nfe=5,10,20"),
    ("grey", ["--grid", "sampler=ddim,hoin"], "sampler 'hoin' is unknown"),
    ("grey", ["--grid", "nfe=2", "--save-steps", "f.gif"], "--grid and --save-steps are both given"),
    ("traces", ["--grid", "nfe=2"], "a sheet shows pictures, and this model draws samples of shape (3, 16)"),
    ("points", ["--save-steps", "f.gif"], "points move in ornstein trace RUN --figure field --out FILE.gif"),
    ("vectors", ["--save-steps", "f.gif"], "vectors have no look; ornstein sample RUN --out FILE.npz has"),
    ("grey", ["--save-steps", "f.avi"], "name a .gif, .webp or .mp4 file"),
    ("grey", ["--save-steps", "s.png"], "name a .gif, .webp or .mp4 file"),
    ("grey", ["--save-steps", "f.gif", "--tolerance", 0.1],
     "--tolerance is 0.1, with which every sample has its own steps"),
    ("grey", ["--scale", 0], "--scale is 0; it must be from 1 to 64"),
    ("traces", ["--scale", 2], "samples of shape (3, 16) are not pictures; leave out --scale"),
])
def test_what_cannot_be_shown_is_refused_in_one_line_before_anything_is_drawn(name, words, says, command, tmp_path):
    orn.save(model_of(name), tmp_path / "m.safetensors")
    code, out, err = command("sample", "m.safetensors", "--out", "s.png", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.usefixtures("grey")
def test_one_of_the_two_places_must_be_named_and_a_film_is_no_drawing_of_all(command):
    assert "--out is missing: FILE.png" in command("sample", "m.safetensors")[2]
    assert "for a film of the pictures forming, --save-steps s.gif" in command(
        "sample", "m.safetensors", "--out", "s.gif")[2]


@pytest.mark.parametrize("kind", [".png", ".jpg", ".jpeg", ".webp"])
def test_a_picture_of_any_format_says_what_it_is(kind, grey, command, tmp_path):
    assert command("sample", "m.safetensors", "--count", 4, "--nfe", 2, "--out", f"s{kind}")[0] == 0
    image = Image.open(f"s{kind}")
    facts = json.loads(image.text["ornstein"] if kind == ".png" else image.getexif()[0x010E])
    assert (facts["nfe"], facts["seed"], len(facts["model"])) == (2, 0, 64)
    whole = pictures.show(grey.data, Request(4, nfe=2).draw(grey), pictures.column_count(4, grey.data.cycle(4)),
                          grey.data.cycle(4))
    away = np.abs(np.asarray(image).astype(int) - np.asarray(whole))
    assert away.mean() < 2 if image.format == "JPEG" else away.max() == 0
    assert files.is_ours(tmp_path / f"s{kind}")


def test_what_is_transparent_lies_on_white_in_a_jpeg(tmp_path):
    formats.write_picture(Image.new("RGBA", (16, 16), (0, 0, 0, 0)), tmp_path / "a.jpg", {})
    assert np.asarray(Image.open(tmp_path / "a.jpg")).min() == 255


def test_pictures_are_saved_as_the_command_saves_them(grey, command, tmp_path):
    assert command("sample", "m.safetensors", "--count", 3, "--nfe", 2, "--scale", 5, "--out", "many")[0] == 0
    x = Request(3, nfe=2).draw(grey)
    orn.save_pictures(x, tmp_path / "mine", grey.data, scale=5)
    for number, one in enumerate(shades(grey, Request(3, nfe=2))):
        for folder in ("many", "mine"):
            drawn = np.asarray(Image.open(tmp_path / folder / f"{number:05d}.png").convert("L"))
            assert_array_equal(drawn, one.repeat(5, 0).repeat(5, 1))
    orn.save_pictures(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 4, 4), tmp_path / "bw.png", scale=1)
    assert sorted(set(np.asarray(Image.open(tmp_path / "bw.png"))[8].ravel())) == [0, 255]


@pytest.mark.parametrize(("x", "options", "says"), [
    (torch.zeros(2, 1, 8, 9), {"data": SPECS["grey"]}, r"x has shape \(2, 1, 8, 9\); data 'grey' have samples"),
    (torch.zeros(2, 5, 8, 8), {}, "without data it must be pictures"),
    (torch.zeros(2, 1, 8, 8), {"scale": 0}, "scale is 0; it must be a whole number, from 1 to 64"),
    (torch.zeros(2, 1, 8, 8), {"data": SPECS["grey"], "labels": torch.tensor([0, 3])}, "a label is 3"),
    (torch.zeros(2, 1, 8, 8), {"data": SPECS["grey"], "labels": torch.tensor([0])}, r"labels have shape \(1,\)"),
    (torch.zeros(2, 3, 16), {"data": SPECS["traces"]}, "are not pictures; name a .png file to see them drawn"),
])
def test_samples_that_are_not_what_they_are_said_to_be_are_not_saved(x, options, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        orn.save_pictures(x, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_the_training_picture_itself_is_nearest_flipped_or_not_and_none_is_held_out(trained, command, tmp_path):
    data = orn.load_data("digits")
    known, held = np.flatnonzero(~data.held), np.flatnonzero(data.held)
    row = int(known[300])
    x = data.batch([row])[0]
    for turned, how in ((x, "as it is"), (x.flip(-1), "flipped")):
        first, *others = orn.nearest(turned, data, 5)[0]
        assert (first.row, first.name, first.label, first.how) == (row, f"row {row}", str(data.labels[row]), how)
        assert first.distance < 1e-6
        assert 0 < others[0].distance <= others[-1].distance < 0.5
    ((first, *_),) = orn.nearest(data.batch(held[:1])[0], data)
    assert first.row in known
    assert first.distance > 0
    orn.save_pictures(x, tmp_path / "one", data.spec)
    code, out, err = command("nearest", trained, "one/00000.png", "--count", 3, "--out", "near.png")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith(f"  row {row}  {data.labels[row]}")
    assert lines[0].startswith("0.00")  # but for the rounding to bytes
    assert json.loads(Image.open("near.png").text["ornstein"])["rows"][0] == row


def test_a_sample_of_an_array_finds_its_rows(command, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 16, 2))
    np.save(tmp_path / "mine.npy", values)
    model = model_of("traces")
    spec = orn.load_data(tmp_path / "mine.npy", layout="LC").spec
    network = orn.UNet((2, 16), widths=[8], depths=[1])
    model = orn.NetworkDenoiser(network, orn.Cosine(), (2, 16), data=spec)
    orn.save(model, tmp_path / "m.safetensors")
    row = int(np.flatnonzero(~orn.load_data(tmp_path / "mine.npy", layout="LC").held)[7])
    np.save(tmp_path / "one.npy", values[row])
    np.save(tmp_path / "wrong.npy", values[row].T)
    code, out, _ = command("nearest", "m.safetensors", "one.npy", "--trained-on", "mine.npy", "--count", 1)
    assert (code, out) == (0, f"0.000  row {row}\n")
    for words, says in ((["wrong.npy"], "one sample of 'mine' is numbers of shape (16, 2)"),
                        (["mine.png"], "mine.png does not exist; name a picture file, or a .npy file of one sample")):
        code, _, err = command("nearest", "m.safetensors", *words, "--trained-on", "mine.npy")
        assert (code, err.count("\n")) == (2, 1)
        assert says in err
    assert "name it with --trained-on" in command("nearest", "m.safetensors", "one.npy")[2]


class Notebook(io.StringIO):
    """What is shown in a notebook: as Jupyter's stream, no terminal, and yet `\\r` goes back to the start of a line."""

    __module__ = "ipykernel.iostream"

    def shown(self) -> list[str]:
        lines = []
        for text in self.getvalue().split("\n"):
            line = ""
            for part in text.split("\r"):
                line = part + line[len(part):]
            lines.append(line.rstrip())
        return lines


def fitted(**options: object) -> None:
    orn.Trainer("moons", images=64, settings=orn.Settings(batch=16, options={"width": 8, "depth": 1})).fit(**options)


def test_a_training_shows_its_progress_in_a_notebook_and_where_it_is_asked_to(monkeypatch, capsys):
    fitted()
    assert capsys.readouterr() == ("", "")
    fitted(progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "chosen: " in err
    assert " %  0:0" in err
    assert err.splitlines()[-1].startswith("done in ")
    page = Notebook()
    monkeypatch.setattr("sys.stderr", page)
    fitted()
    assert page.shown()[-2].startswith("done in ")
    assert sum(" left  " in line for line in page.shown()) == 1
    before = page.getvalue()
    fitted(progress=False)
    fitted(on_event=lambda _: None)
    assert page.getvalue() == before


def test_drawing_shows_one_line_that_goes_again(monkeypatch):
    page = Notebook()
    monkeypatch.setattr("sys.stderr", page)
    orn.sample(model_of("points"), 200, nfe=2, progress=True)
    assert "100 %  sampling, 0:00 left" in page.getvalue()
    assert page.shown() == [""]


def test_an_mp4_lasts_as_long_as_the_film_and_says_what_it_is(tmp_path):
    av = pytest.importorskip("av")
    model = model_of("grey")
    orn.save_film(orn.generate(model, 4, nfe=3, sampler="ddim"), tmp_path / "f.mp4", model.data, scale=3,
                  facts={"seed": 0})
    with av.open(str(tmp_path / "f.mp4")) as film:
        assert json.loads(film.metadata["comment"]) == {"seed": 0}
        frames = [frame.to_ndarray(format="gray") for frame in film.decode(video=0)]
    assert len(frames) == 3 * 5 + 30  # moments of 250 ms and the samples for 1,500, at 20 a second
    x = pictures.show(model.data, orn.sample(model, 4, nfe=3, sampler="ddim"), 2, scale=3).convert("L")
    assert np.abs(frames[-1][:x.height, :x.width].astype(int) - np.asarray(x)).mean() < 4


def test_colours_of_a_gif_are_near_and_white_stays_white(tmp_path):
    model = model_of("colour")
    x = orn.save_film(orn.generate(model, 4, nfe=3), tmp_path / "f.gif", model.data, scale=4)
    *_, last = (np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(tmp_path / "f.gif")))
    wanted = np.asarray(pictures.show(model.data, x, 2, scale=4))
    assert (last[(wanted == 255).all(-1)] == 255).all()
    assert np.abs(last.astype(int) - wanted).mean() < 6
