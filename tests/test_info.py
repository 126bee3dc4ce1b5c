"""`ornstein info`: what a model, a run or a picture says of itself, and what others do not."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import ornstein as orn
from ornstein.checkpoint import digest
from ornstein.diffusion.samplers.choice import Choice
from test_figures import model_of


def test_a_run_says_what_it_is_made_of(trained, command):
    code, said, _ = command("info", trained)
    lines = dict(line.split("  ", 1) for line in said.splitlines())
    lines = {name: text.strip() for name, text in lines.items()}
    assert code == 0
    assert lines["network"].startswith("unet, shape 1 x 8 x 8, classes 10")
    assert lines["data"] == "digits: pictures of 1 x 8 x 8, values 0 to 16, 17 levels"
    assert lines["data SHA-256"] == orn.load_data("digits").digest()
    assert lines["cost"].startswith("640 samples seen")
    assert lines["SHA-256"] == digest(trained)
    assert f"{sum(one.numel() for one in orn.load(trained).network.parameters()):,} (F32)" in lines["weights"]
    facts = json.loads(command("info", trained, "--json")[1])
    assert facts["recipe"]["images"] == 640
    assert facts["file_sha256"] == digest(trained)


def test_a_picture_says_how_it_was_drawn_and_a_model_what_it_was_tuned_for(command, tmp_path):
    grey = model_of("grey")
    grey.tuned = {(6, 2.0): Choice(6, "auto", guidance=2.0)}
    orn.save(grey, tmp_path / "m.safetensors")
    label = grey.data.classes[1]
    assert command("sample", "m.safetensors", "--label", label, "--guidance", "1.5", "--nfe", "4", "--seed", "9",
                   "--count", "2", "--out", "a.png")[0] == 0
    _, said, _ = command("info", "a.png")
    for name, value in (("seed", "9"), ("network calls", "4"), ("guidance", "1.5"), ("label", label),
                        ("model (SHA-256)", digest(tmp_path / "m.safetensors"))):
        assert any(line.split("  ")[0] == name and line.endswith(f" {value}") for line in said.splitlines())
    assert "6 calls: auto, guidance 2" in command("info", "m.safetensors")[1]


@pytest.mark.parametrize("name", ["a.png", "a.npz", "a.gif", "a.txt", "a.safetensors", "folder"])
def test_what_is_foreign_is_said_in_one_line(command, tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "a.npz":
        np.savez(path, x=np.zeros(3))
    elif path.suffix in (".png", ".gif"):
        Image.new("L", (4, 4)).save(path, **({"comment": b'{"a": 1}'} if name == "a.gif" else {}))
    else:
        path.write_bytes(b"\x10\0\0\0\0\0\0\0" + b'{"a": {"b": 1}}  ')
    code, said, err = command("info", name)
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert f"{name} is not a " in err


@pytest.mark.parametrize("note", [{"metrics": 3, "data": [], "tuned": 5}, {"network": "x", "tuned": [1], "schedule": 2},
                                  {"data": {"levels": "\x1b[31m"}, "metrics": {"images": "many"}}])
def test_a_description_may_say_anything(command, tmp_path, note):
    header = json.dumps({"__metadata__": {"ornstein": json.dumps(note)}}).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    code, said, err = command("info", "m.safetensors")
    assert (code, err) == (0, "")
    assert "\x1b" not in said


def test_it_imports_no_torch(trained):
    code = (f"import sys; sys.argv = ['ornstein', 'info', {str(trained)!r}]\nfrom ornstein import cli\n"
            "try:\n    cli.main()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
