"""What is drawn and written of samples, and the figures that compare them with data."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import ornstein as orn
from ornstein import cli
from ornstein.data import DataSpec
from ornstein.description import assemble, describe
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.figures import arrays, pictures, trace
from ornstein.figures.statistics import marginals, power, spectrum, statistics
from ornstein.networks import build, choose_network

COLOURS = ("red", "green", "blue")
SPECS = {
    "grey": DataSpec("grey", "picture", (1, 8, 8), 0.0, 16.0, 17, tuple("012"), "HW"),
    "colour": DataSpec("colour", "picture", (3, 8, 8), (0.0, -5.0, 10.0), (1.0, 5.0, 30.0), None, (), "HWC"),
    "points": DataSpec("points", "array", (2,), -3.0, 3.0, None, ("in", "out")),
    "vectors": DataSpec("vectors", "array", (5,), -3.0, 3.0, None, conditions=("mass", "charge")),
    "traces": DataSpec("traces", "array", (3, 16), (0.0, -5.0, 10.0), (1.0, 5.0, 30.0), None, (), "LC"),
    "fields": DataSpec("fields", "array", (2, 8, 6), -1.0, 1.0, None, ("a$b", "c"), "CHW"),
    "volumes": DataSpec("volumes", "array", (2, 4, 4, 6), -1.0, 1.0, None, (), "DHWC"),
}


def model_of(name: str) -> NetworkDenoiser:
    """A small model of a spec's data with random weights, ready to sample."""
    spec = SPECS[name]
    kind, _ = choose_network(spec.shape)
    small = {"width": 16, "depth": 1} if kind == "mlp" else {"widths": [8], "depths": [1]}
    torch.manual_seed(0)
    network = build(kind, {"shape": list(spec.shape), "classes": len(spec.classes), "conditions": len(spec.conditions),
                           **small})
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1 * torch.randn_like(value))
    moments = {"condition_mean": [0.0, 1.0], "condition_std": [1.0, 2.0]} if spec.conditions else {}
    return NetworkDenoiser(network, orn.Cosine(), spec.shape, data_std=0.5, data=spec, **moments).eval()


def draws(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3).filter(lambda sides: max(sides) > 1), st.integers(0, 99))
def test_a_band_of_the_spectrum_is_the_mean_power_of_its_frequencies(sides, seed):
    """Against the whole transform, frequency by frequency, for one to three sides, even and odd."""
    values = draws(3, 2, *sides, seed=seed)
    frequency, found = power(values)
    axes = tuple(range(2, values.ndim))
    whole = np.abs(np.fft.fftn(values - values.mean((0, *axes), keepdims=True), axes=axes)) ** 2 / np.prod(sides)
    length = np.sqrt(sum(grid**2 for grid in np.meshgrid(*map(np.fft.fftfreq, sides), indexing="ij")))
    band = np.rint(length * max(sides)).astype(int)
    for place, one in enumerate(np.rint(frequency * max(sides)).astype(int)):
        assert_allclose(found[..., place], whole[..., band == one].mean(-1), rtol=1e-10)
    assert frequency.max() <= 0.5


def test_a_wave_has_its_power_at_its_frequency():
    """A wave of amplitude a over L places holds a^2 L / 4 at +-k, wherever its phase is."""
    place, size = np.arange(32) / 32, 3.0
    values = np.stack([size * np.cos(2 * np.pi * 5 * place + phase) for phase in (0.0, 1.0)])[:, None]
    frequency, found = power(values)
    assert_allclose(frequency * 32, np.arange(1, 17))
    assert_allclose(found[:, 0, 4], size**2 * 32 / 4)
    assert_allclose(np.delete(found, 4, 2), 0, atol=1e-20)


@pytest.mark.parametrize("sides", [(16,), (8, 6), (4, 4, 6)])
def test_samples_that_are_louder_differ_by_that_in_every_band(sides):
    data = draws(10, 2, *sides)
    found = spectrum(data, data * np.array([1.0, 1.2]).reshape(2, *[1] * len(sides)))
    assert_allclose(found["difference"][0], 0, atol=1e-12)
    assert_allclose(found["difference"][1], 0.44, rtol=1e-10)
    assert found["largest"] == pytest.approx(0.44)
    assert found["largest_of_all"] == pytest.approx(0.44)


def test_the_standard_error_of_a_spectrum_covers():
    """Of independent draws of one process about 95 % of the bands lie within two standard errors."""
    inside = []
    for seed in range(20):
        walks = [np.cumsum(draws(200, 1, 32, seed=part), -1) for part in (2 * seed, 2 * seed + 1)]
        found = spectrum(*walks)
        inside.append(np.abs(found["difference"]) < 2 * found["error"])
    assert 0.92 < np.mean(inside) < 0.98


def test_the_bands_that_count_hold_99_percent_of_the_power():
    """A loud wave and a whisper: the whisper is left to `largest_of_all`."""
    place = np.arange(64) / 64
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (2, 50, 1))
    loud, quiet = np.sin(2 * np.pi * 3 * place + phase[0]), np.sin(2 * np.pi * 20 * place + phase[1])
    noise = 1e-6 * draws(50, 64)
    found = spectrum((loud + 0.01 * quiet + noise)[:, None], (1.1 * loud + 0.03 * quiet + noise)[:, None])
    assert np.flatnonzero(found["bands"][0]).tolist() == [2]
    assert found["largest"] == pytest.approx(0.21, rel=1e-4)
    assert found["largest_of_all"] == pytest.approx(8, rel=1e-2)


@given(st.floats(-5, 5), st.floats(0.01, 100))
def test_marginals_are_compared_in_deviations_of_the_data(shift, unit):
    """A shift by s deviations is a distance of |s|, whatever the units; other channels are not touched by it."""
    data = draws(20, 2, 3, 4)
    moved = data + np.array([0.0, shift * data[:, 1].std()]).reshape(2, 1, 1)
    assert_allclose(marginals(unit * data, unit * moved), [0, abs(shift)], atol=1e-9)


@pytest.mark.usefixtures("laid_out")
@pytest.mark.parametrize("name", ["traces", "fields", "volumes", "vectors", "colour"])
def test_statistics_are_drawn_and_told(name, tmp_path):
    spec = SPECS[name]
    values = [spec.decode(torch.from_numpy(draws(count, *spec.shape, seed=count)) / 3) for count in (30, 20)]
    found = statistics(spec, *values, tmp_path / "deep" / "s.png")
    assert Image.open(tmp_path / "deep" / "s.png").convert("RGB").getpixel((1, 1)) == (255, 255, 255)
    assert (found["data"], found["samples"]) == (30, 20)
    assert found["wasserstein"].shape == spec.shape[:1]
    assert found["wasserstein_largest"] == found["wasserstein"].max()
    assert (found["spectrum"] is None) == (name == "vectors")
    assert not marginals(values[0], values[0]).any()
    assert name == "vectors" or spectrum(values[0], values[0])["largest_of_all"] == 0


@pytest.mark.parametrize(("data", "samples", "says"), [
    (np.zeros((4, 3, 16)), np.zeros((4, 16, 3)), r"sample_values has shape \(4, 16, 3\); it must be \(N, 3, 16\)"),
    (np.zeros((1, 3, 16)), np.zeros((4, 3, 16)), r"data_values has shape \(1, 3, 16\).*N >= 2"),
    (np.zeros((4, 3, 16)), np.full((4, 3, 16), np.nan), "sample_values holds values that are not finite"),
])
def test_what_cannot_be_compared_is_refused(data, samples, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        statistics(SPECS["traces"], data, samples, tmp_path / "s.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SPECS)
def test_previews_of_every_kind_repeat(name, tmp_path):
    """The same picture twice, with what it is inside."""
    model = model_of(name)
    for number in range(2):
        pictures.preview(model, tmp_path / f"{number}.png", count=6)
    if name == "grey":
        pictures.preview(model, None, count=6)
    assert len(list(tmp_path.iterdir())) == 2
    files = [(tmp_path / f"{number}.png").read_bytes() for number in range(2)]
    assert files[0] == files[1]
    image = Image.open(tmp_path / "0.png")
    assert json.loads(image.info["ornstein"]) == {"seed": 0, "nfe": pictures.CALLS}
    assert len(set(image.convert("L").tobytes())) > 2


def test_names_of_classes_stand_over_columns_or_pictures_and_leave_the_pictures_alone():
    values = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3), dtype=np.uint8)
    plain = pictures.grid(values, 4)
    columns = pictures.grid(values, 4, [COLOURS[number % 4 % 3] for number in range(12)])
    each = pictures.grid(values, 4, [COLOURS[number % 3] for number in range(12)])
    assert plain.width == columns.width == each.width
    head, heads = columns.height - plain.height, each.height - plain.height
    assert head > 0
    assert heads == 3 * head
    below = columns.crop((0, head + pictures.GAP, columns.width, columns.height))
    assert below.tobytes() == plain.crop((0, pictures.GAP, plain.width, plain.height)).tobytes()
    assert np.asarray(columns)[:head + pictures.GAP].min() < 128
    small = pictures.grid(np.zeros((6400, 16, 16, 3), np.uint8), 80, ["a"] * 6400)
    assert small.size == pictures.grid(np.zeros((6400, 16, 16, 3), np.uint8), 80).size


def test_channels_of_their_own_range_are_shaded_by_it():
    """The middle of every channel's range is the middle grey, its ends black and white."""
    spec, x = SPECS["colour"], torch.tensor([-1.0, 0.0, 1.0])
    shade = pictures.picture(spec, x.reshape(3, 1, 1, 1).expand(3, 3, 8, 8))
    assert_array_equal(shade[:, 0, 0], [[0] * 3, [128] * 3, [255] * 3])


@pytest.mark.parametrize(("low", "high", "words"), [(0, 1, 3), (-1e6, -859180.56, 2), (-0.000306, 0.000555, 2)])
def test_the_numbers_under_a_scale_stand_apart(low, high, words):
    values = np.linspace(low, high, 72).reshape(1, 1, 2, 6, 6)
    values[0, 0, 1, 0, 0], values[0, 0, 1, 5, 5] = low, high  # the slice that is drawn has both ends
    under = np.asarray(arrays.draw_fields(values).convert("L"))[-46:]
    inked = np.flatnonzero((under < 140).any(axis=0))
    assert 1 + (np.diff(inked) > 6).sum() == words


@pytest.mark.parametrize("name", SPECS)
def test_numbers_come_in_the_users_layout_and_units_and_can_be_read_again(name, tmp_path):
    spec = SPECS[name]
    x = torch.from_numpy(draws(4, *spec.shape)).float() / 3
    labels = torch.arange(4) % len(spec.classes) if spec.classes else None
    told = torch.tensor([[1.5, 2.0]]).expand(4, -1) if spec.conditions else None
    pictures.write(spec, x, labels, tmp_path / "x.npz", {}, told)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert_array_equal(found["x"], spec.arrange(spec.decode(x)))
        assert ("labels" in found) == bool(spec.classes)
        if told is not None:
            assert_array_equal(found["conditions"], [[1.5, 2.0]] * 4)
            assert found["names"].tolist() == ["mass", "charge"]
    assert orn.load_data(tmp_path / "x.npz").spec.classes == spec.classes


def test_a_folder_holds_the_pictures_of_one_call_and_nothing_of_the_users_is_lost(tmp_path):
    spec, out = SPECS["colour"], tmp_path / "drawn"
    x = torch.zeros(12, 3, 8, 8)
    pictures.write(spec, x, None, out, {})
    (out / "notes.txt").write_text("mine")
    (out / "mine.png").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match="12 pictures of an earlier call, of which 3 would be replaced and 9 would no"):
        pictures.write(spec, x[:3], None, out, {})
    assert before == {path: path.read_bytes() for path in out.iterdir()}
    pictures.write(spec, x + 1, None, out, {})
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {f"{number:05d}.png" for number in range(12)}
    Image.new("RGB", (4, 4)).save(out / "00007.png")
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match=r"00007.png would be overwritten, and is not a picture from ornstein"):
        pictures.write(spec, x, None, out, {})
    assert before == {path: path.read_bytes() for path in out.iterdir()}


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Run the command line in this process, in an empty folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ornstein", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


@pytest.mark.parametrize("name", ["points", "vectors", "traces", "fields"])
def test_the_command_draws_and_writes_arrays(name, command, tmp_path):
    orn.save(model_of(name), tmp_path / "m.safetensors")
    for out in ("s.png", "s.npz"):
        assert command("sample", "m.safetensors", "--out", out, "--count", 3, "--nfe", 2)[0] == 0
    assert Image.open("s.png").size[0] > 300
    spec = SPECS[name]
    assert np.load("s.npz")["x"].shape == spec.arrange(np.zeros((3, *spec.shape))).shape
    code, _, err = command("sample", "m.safetensors", "--out", "folder", "--count", 3)
    assert (code, "name a .png file to see them drawn" in err) == (2, True)
    assert not (tmp_path / "folder").exists()


def test_the_command_takes_a_vector_condition_or_says_that_it_has_none(command, tmp_path):
    model = model_of("vectors")
    orn.save(model, tmp_path / "m.safetensors")
    x = {}
    for words in (["--condition", "1.5,2"], ["--condition=-1.5,2"], []):
        code, said, _ = command("sample", "m.safetensors", "--out", "s.npz", "--count", 4, "--nfe", 3, *words)
        assert code == 0
        assert ("without --condition MASS,CHARGE: drawn over all conditions" in said) == (not words)
        x[" ".join(words)] = np.load("s.npz")["x"]
    told = orn.sample(orn.load("m.safetensors"), 4, nfe=3, condition=torch.tensor([1.5, 2.0]))
    assert_array_equal(x["--condition 1.5,2"], model.data.decode(told))
    assert_array_equal(x[""], model.data.decode(orn.sample(orn.load("m.safetensors"), 4, nfe=3)))
    assert np.abs(x["--condition 1.5,2"] - x["--condition=-1.5,2"]).max() > 1e-3


@pytest.mark.parametrize(("name", "words", "says"), [
    ("vectors", ["--condition", "1.5"], "--condition is [1.5]; it must be 2 finite numbers for mass, charge"),
    ("vectors", ["--condition", "1.5,x"], "--condition is 1.5,x; it must be numbers separated by commas"),
    ("vectors", ["--condition", "1.5,nan"], "it must be 2 finite numbers"),
    ("vectors", ["--label", "3"], "class '3' cannot be chosen"),
    ("points", ["--condition", "1"], "trained without; leave it out, or choose a class with --label"),
    ("points", ["--count", "1000000000000"], "--count is 1000000000000; so many samples of shape (2,) need 74,506 GiB"),
    ("points", ["--nfe", "1", "--sampler", "heun"], "--nfe is 1; heun needs at least 2 calls"),
    ("points", ["--nfe", "0"], "--nfe is 0; it must be a whole number, from 1"),
    ("points", ["--nfe", "3", "--steps", "3"], "--nfe and --steps are both given; give one of nfe, steps and times"),
    ("points", ["--sampler", "hoin"], "sampler 'hoin' is unknown; did you mean 'heun'?"),
    ("traces", ["--guidance", "2"], "--guidance is 2, but there is nothing to guide towards; leave it out"),
    ("vectors", ["--guidance", "2"], "--guidance is 2, but there is nothing to guide towards; give a condition"),
    ("points", ["--guidance", "nan"], "--guidance is nan; it must be a finite number"),
])
def test_what_the_command_refuses_it_names_as_it_was_typed(name, words, says, command, tmp_path):
    orn.save(model_of(name), tmp_path / "m.safetensors")
    code, out, err = command("sample", "m.safetensors", "--out", "s.npz", *words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "s.npz").exists()


@pytest.mark.usefixtures("laid_out")
@pytest.mark.parametrize("name", [
    "grey", "points", *(pytest.param(name, marks=pytest.mark.slow) for name in ("traces", "fields", "volumes"))])
def test_a_strip_can_be_drawn_of_everything_that_has_a_look(name, tmp_path):
    trace.draw(model_of(name), tmp_path / "t.png")
    assert Image.open(tmp_path / "t.png").size[0] > 1000


def test_a_strip_of_what_has_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="this model was trained on vectors of 5 values"):
        trace.draw(model_of("vectors"), tmp_path / "t.png")
    with pytest.raises(ValueError, match=r"image is a.png, but this model was trained on arrays of shape \(3, 16\)"):
        trace.draw(model_of("traces"), tmp_path / "t.png", image=Path("a.png"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SPECS)
def test_a_model_of_every_kind_is_itself_after_its_file(name):
    model = model_of(name)
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    again = assemble(tensors, json.loads(json.dumps(describe(model)))).eval()
    condition = torch.tensor([math.pi, -1.0]) if SPECS[name].conditions else None
    a, b = (orn.sample(one, 2, nfe=2, condition=condition) for one in (model, again))
    assert torch.equal(a, b)
