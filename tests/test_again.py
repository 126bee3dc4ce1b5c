"""`ornstein sample --again`: whatever was drawn is drawn again, bit for bit, from what the file says of itself."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

import ornstein as orn
from ornstein.diffusion.samplers.choice import Choice
from ornstein.figures.formats import read_facts, write_picture
from test_figures import model_of

TUNED = Choice(3, "ddim", (1.0, 0.7, 0.3, 0.0))


def shown(path: Path) -> list[np.ndarray]:
    if path.suffix == ".mp4":
        import av

        with av.open(str(path)) as film:
            return [frame.to_ndarray() for frame in film.decode(video=0)]
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return [archive[name] for name in archive.files if name != "ornstein"]
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)]


@pytest.fixture
def models(tmp_path):
    """A model of pictures in classes, tuned for 3 calls, and one of vectors with conditions."""
    grey = model_of("grey")
    schedule = grey.schedule
    angles = tuple(float(schedule.level(orn.grid(schedule, 1).new_tensor(t)).angle) for t in TUNED.times)
    grey.tuned = {3: Choice(3, "ddim", TUNED.times, angles)}
    orn.save(grey, tmp_path / "grey.safetensors")
    orn.save(model_of("vectors"), tmp_path / "vectors.safetensors")
    return grey


CASES = [
    ("grey", "a.png", []),
    ("grey", "a.png", ["--count", "5", "--seed", "18446744073709551615"]),
    ("grey", "a.webp", ["--count", "3", "--sampler", "ancestral", "--steps", "4"]),
    ("grey", "a.jpg", ["--count", "3", "--sampler", "dpm++sde", "--nfe", "5"]),
    ("grey", "a.png", ["--count", "2", "--label", "CLASS", "--guidance", "1.7000000000000002", "--nfe", "6"]),
    ("grey", "a.png", ["--count", "4", "--label", "CLASS,0", "--guidance", "0"]),
    ("grey", "a.png", ["--count", "3", "--tolerance", "0.05"]),
    ("grey", "a.png", ["--count", "3", "--nfe", "3"]),
    ("grey", "a.png", ["--count", "3", "--scale", "3", "--sampler", "heun", "--nfe", "7"]),
    ("grey", "a.png", ["--count", "2", "--grid", "nfe=2,3", "guidance=1,2.123456789"]),
    ("grey", "a.webp", ["--count", "2", "--grid", "sampler=ddim,edm", "--label", "CLASS"]),
    ("grey", "many/00002.png", ["--count", "4", "--out", "many", "--seed", "3", "--sampler", "langevin", "--steps=3"]),
    ("grey", "many/00001.png", ["--count", "2", "--out", "many", "--scale", "2", "--label", "CLASS", "--guidance=2"]),
    ("grey", "many/00001.png", ["--count", "2", "--out", "many", "--nfe", "3"]),
    ("grey", "a.npz", ["--count", "3", "--nfe", "3"]),
    ("grey", "f.gif", ["--count", "3", "--save-steps", "f.gif", "--nfe", "4"]),
    ("grey", "f.webp", ["--count", "2", "--save-steps", "f.webp", "--nfe", "3", "--label", "CLASS", "--scale", "4"]),
    pytest.param("grey", "f.mp4", ["--count", "2", "--save-steps", "f.mp4", "--nfe", "3"], marks=pytest.mark.skipif(
        find_spec("av") is None, reason="needs the extra film")),
    ("vectors", "a.npz", ["--count", "4", "--condition=-0.1,0.30000000000000004", "--nfe", "4"]),
    ("vectors", "a.npz", ["--count", "70", "--condition", "0.5,0.5", "--guidance", "1.5", "--nfe", "2"]),
    ("vectors", "a.png", ["--count", "4", "--steps", "3"]),
]


@pytest.mark.parametrize(("name", "picture", "words"), CASES)
def test_what_was_drawn_with_any_options_is_drawn_again(models, command, tmp_path, name, picture, words):
    words = [word.replace("CLASS", models.data.classes[1]) for word in words]
    out = [] if {"--out", "--save-steps"} & {*words} else ["--out", picture]
    code, _, err = command("sample", f"{name}.safetensors", *words, *out)
    assert (code, err) == (0, "")
    before = shown(tmp_path / picture)
    code, said, err = command("sample", "--again", picture)
    assert (code, err) == (0, "")
    assert "the same, bit for bit" in said
    after = tmp_path / picture.replace(".", "-again.")
    assert all(map(np.array_equal, before, shown(after)))
    assert len(before) == len(shown(after))
    assert read_facts(after) == read_facts(tmp_path / picture)


def test_a_model_that_was_tuned_since_still_draws_it(models, command, tmp_path):
    """The choice travels in the picture; that the file has changed is said."""
    assert command("sample", "grey.safetensors", "--count", "2", "--nfe", "3", "--out", "a.png")[0] == 0
    assert command("sample", "grey.safetensors", "--count", "2", "--nfe", "4", "--out", "b.png")[0] == 0
    models.tuned = {4: Choice(4, "ddim", (1.0, 0.5, 0.0), (models.tuned[3].angles[0], 0.7, 0.0))}
    models.tuned[4] = Choice(4, "ddim", (1.0, 0.0), (models.tuned[4].angles[0], 0.0))
    orn.save(models, tmp_path / "grey.safetensors")
    for picture in ("a.png", "b.png"):
        code, said, err = command("sample", "--again", picture)
        assert code == 0
        assert "is not the one that drew it" in err
        assert "the same, bit for bit" in said
    (tmp_path / "grey.safetensors").rename(tmp_path / "moved.safetensors")
    code, _, err = command("sample", "--again", "a.png")
    assert (code, err.count("\n")) == (2, 1)
    assert "was drawn by grey.safetensors, which does not exist; name the run: ornstein sample RUN --again a.png" in err
    assert command("sample", "moved.safetensors", "--again", "a.png", "--out", "c.png")[0] == 0
    assert np.array_equal(shown(tmp_path / "a.png")[0], shown(tmp_path / "c.png")[0])


@pytest.mark.usefixtures("models")
def test_code_is_never_run_because_a_picture_says_so(command, tmp_path):
    (tmp_path / "mine.py").write_text("from pathlib import Path\nimport ornstein as orn\nPath('ran').touch()\n"
                                      "class Plain(orn.Rule):\n    order = 1\n"
                                      "    def advance(self, step):\n        return step.turn(1.0)\n")
    assert command("sample", "grey.safetensors", "--count", "2", "--sampler", "mine.py:Plain", "--out", "a.png")[0] == 0
    (tmp_path / "ran").unlink()
    code, _, err = command("sample", "--again", "a.png")
    assert code == 2
    assert "if you trust it, name it: --sampler mine.py:Plain" in err
    assert not (tmp_path / "ran").exists()
    code, said, _ = command("sample", "--again", "a.png", "--sampler", "mine.py:Plain")
    assert code == 0
    assert "the same, bit for bit" in said


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(("facts", "says"), [
    ({"noise": 1}, "drawn with version 1 of the random numbers"),
    ({"count": 10**9}, "GiB of memory"),
    ({"count": "3"}, "count is '3' in it, which is impossible"),
    ({"seed": -1}, "seed is -1"),
    ({"sampler": "exec"}, "'exec' is unknown"),
    ({"number": -3}, "number is -3"),
    ({"cells": ["../../x"], "grid": {}, "nfe": None}, "write option=value"),
    ({"run": "/nowhere/run"}, "which does not exist"),
    ({"tuned": {"nfe": 2}, "model": "0" * 64}, "a tuned choice is incomplete or damaged"),
    ({"label": {"a": 1}}, "label is"),
    ({"edit": "vary"}, "was made by ornstein edit"),
    (None, "does not say how it was drawn"),
])
def test_what_a_picture_says_is_checked(command, tmp_path, facts, says):
    assert command("sample", "grey.safetensors", "--count", "2", "--nfe", "2", "--out", "a.png")[0] == 0
    told = json.loads(json.dumps(read_facts(tmp_path / "a.png")))
    write_picture(Image.open(tmp_path / "a.png"), tmp_path / "b.png", {} if facts is None else told | facts)
    code, _, err = command("sample", "--again", "b.png", "--out", "c.png")
    assert (code, err.strip().count("\n")) in ((2, 0), (2, 1))  # that the model is another one is said before
    assert says in err
    assert not (tmp_path / "c.png").exists()


@pytest.mark.usefixtures("models")
def test_a_picture_that_names_no_sampler_is_drawn_again_by_auto(command, tmp_path):
    assert command("sample", "grey.safetensors", "--count", "2", "--nfe", "2", "--out", "a.png")[0] == 0
    facts = read_facts(tmp_path / "a.png") | {"sampler": None}
    write_picture(Image.open(tmp_path / "a.png"), tmp_path / "b.png", facts)
    code, out, _ = command("sample", "--again", "b.png", "--out", "c.png")
    assert code == 0
    assert "bit for bit" in out


def test_again_and_other_options_do_not_go_together(command):
    for words, says in ((["--nfe", "3"], "--again and --nfe are both given"), ([], "RUN is missing")):
        code, _, err = command("sample", *(["--again", "a.png", *words] if words else []))
        assert (code, err.count("\n")) == (2, 1)
        assert says in err
