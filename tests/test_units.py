"""A change of units changes units: the same seed gives the same loss and the same samples, in the other units."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import ornstein as orn
from ornstein.data import DataSpec, load_data
from ornstein.figures.pictures import picture
from ornstein.training.engine import Engine
from ornstein.training.run import Run

SMALL = {"points": ("mlp", {"width": 32, "depth": 1}), "traces": ("unet", {"widths": [8], "depths": [1]}),
         "pictures": ("mlp", {"width": 32, "depth": 1})}
WIDTH = 2.7  # of the values of each kind, about


def values_of(kind: str, count: int = 300) -> np.ndarray:
    """Float values whose spread is 1 or so."""
    rng = np.random.default_rng(0)
    if kind == "points":
        return rng.choice([-1.0, 1.0], (count, 2)) + rng.normal(0, 0.1, (count, 2))
    if kind == "traces":
        phase = rng.uniform(0, 6.28, (count, 2, 1))
        return np.sin(phase + np.arange(16) / 3) + rng.normal(0, 0.1, (count, 2, 16))
    place = rng.uniform(2, 6, (count, 1, 1, 1, 2))
    x, y = np.meshgrid(np.arange(8), np.arange(8))
    return np.exp(-(x - place[..., 0]) ** 2 / 4 - (y - place[..., 1]) ** 2 / 4) * rng.uniform(0.5, 1, (count, 1, 1, 1))


def learned(values: np.ndarray, kind: str, images: int = 640) -> tuple[float, np.ndarray]:
    """The held-out loss, and samples in the units of the values."""
    network, options = SMALL[kind]
    model = orn.Trainer(values, images=images, seed=1,
                        settings=orn.Settings(network=network, options=options, batch=64, compile=False)).fit()
    assert model.data is not None
    return model.metrics["held_out"], model.data.decode(orn.sample(model, 64, nfe=8, seed=2))


FIRST: dict[tuple[str, int], tuple[float, np.ndarray]] = {}


def differences(kind: str, scale: float, offset: float, images: int = 640,
                single: bool = False) -> tuple[float, float]:
    """The share by which the held-out loss differs in other units, and the root mean square of what the samples differ
    by, over their spread; the offset counts widths."""
    if (kind, images) not in FIRST:
        FIRST[kind, images] = learned(values_of(kind), kind, images)
    loss, samples = FIRST[kind, images]
    start = offset * WIDTH * scale
    values = values_of(kind) * scale + start
    other, moved = learned(values.astype(np.float32) if single else values, kind, images)
    apart = (moved.astype(np.float64) - start) / scale - samples
    return abs(other / loss - 1), float(np.sqrt(np.mean(apart**2)) / samples.std())


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(list(SMALL)), st.floats(-12, 12), st.sampled_from([-1, 0, 1]), st.floats(-2, 9))
def test_scale_and_offset_change_neither_loss_nor_samples(kind, scale, sign, offset):
    """Scales 1e-12 to 1e12, offsets up to 1e9 widths."""
    loss, samples = differences(kind, 10.0**scale, sign * 10.0**offset)
    assert loss < 0.01
    assert samples < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(SMALL))
def test_the_whole_range_of_scales_and_offsets(kind):
    """As above over a grid and twenty times the training; of float32 as far as its digits go."""
    worst = np.zeros(2)
    for scale in (1e-12, 1e-6, 1e-3, 1e3, 1e12):
        for offset in (0.0, 1.0, -1e3, 1e6, -1e9):
            worst = np.maximum(worst, differences(kind, scale, offset, 12_800))
        for offset in (0.0, 100.0):
            worst = np.maximum(worst, differences(kind, scale, offset, 12_800, single=True))
    print(f"{kind}: loss differs by at most {worst[0]:.2%}, samples by {worst[1]:.2%} of the spread")
    assert worst[0] < 0.01
    assert worst[1] < 0.02


@pytest.mark.parametrize(("factor", "offset"), [(3, -7), (255, 0), (7, 2**60)])
def test_whole_factors_and_offsets_of_whole_numbers_change_nothing_at_all(factor, offset):
    rng = np.random.default_rng(0)
    values = rng.binomial(9, 0.5, (300, 2))
    if "values" not in FIRST:
        FIRST["values"] = learned(values, "points")
    loss, samples = FIRST["values"]
    other, moved = learned(values * factor + offset, "points")
    assert other == loss
    assert np.array_equal(moved.astype(np.int64), samples.astype(np.int64) * factor + offset)
    assert len(np.unique(samples)) > 4


def test_masks_of_bytes_are_learned_as_any_whole_numbers_are():
    """Of 0 and 1 as uint8, int64 and bool, and of 0 and 255: one loss, and samples of two values."""
    masks = values_of("pictures") > 0.4
    found = [learned(masks.astype(kind) * np.array(factor, kind), "pictures")
             for kind, factor in (("u1", 1), ("i8", 1), ("?", True), ("u1", 255))]
    assert len({loss for loss, _ in found}) == 1
    for (_, samples), top in zip(found, (1, 1, 1, 255), strict=True):
        assert set(np.unique(samples)) == {0, top}
    data = load_data(masks.astype(np.uint8))
    drawn = picture(data.spec, data.batch([0])[0])
    assert np.array_equal(drawn[0, ..., 0], masks[0, 0] * 255)


def test_age_income_and_a_flag_come_back_as_whole_numbers():
    rng = np.random.default_rng(0)
    table = np.stack([rng.integers(18, 90, 300), rng.lognormal(10.5, 0.5, 300).astype(int), rng.integers(0, 2, 300)], 1)
    _, samples = learned(table, "points")
    assert np.array_equal(samples, np.rint(samples))
    assert set(np.unique(samples[:, 2])) == {0, 1}
    assert samples[:, 1].std() > 1000


def test_samples_of_a_time_in_seconds_differ():
    """Unix time: float32 knows one second in 128."""
    rng = np.random.default_rng(0)
    _, samples = learned(1.7e9 + rng.uniform(0, 100, (300, 2)), "points")
    assert samples.dtype == np.float64
    assert len(np.unique(samples)) == samples.size
    assert ((samples > 1.7e9 - 100) & (samples < 1.7e9 + 200)).all()


def test_conditions_with_a_large_offset_are_told_apart():
    """What follows a time in seconds follows it on whatever date."""
    rng = np.random.default_rng(0)
    time = rng.uniform(0, 100, (300, 1))
    values = time / 50 - 1 + rng.normal(0, 0.1, (300, 2))
    drawn = []
    for start in (0.0, 1.7e9):
        model = orn.Trainer((values, start + time), images=2560, seed=1,
                            settings=orn.Settings(network="mlp", options=SMALL["points"][1], batch=64)).fit()
        asked = torch.tensor([[20.0], [80.0]], dtype=torch.float64).repeat_interleave(64, 0) + start
        drawn.append(orn.sample(model, 128, nfe=8, condition=asked, seed=2))
    assert drawn[0][64:].mean() - drawn[0][:64].mean() > 0.5
    assert (drawn[0] - drawn[1]).square().mean().sqrt() < 0.02 * drawn[0].std()


def test_heavy_tails_do_not_shrink_the_rest():
    """One value in a thousand far away leaves the others their scale."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (2000, 1))
    values[::1000] = 100
    data = load_data(values)
    assert 0.2 < data.batch(range(1, 1000))[0].std() / data.batch(range(2000))[0].std() < 1
    assert data.batch(range(2000))[0].std() == pytest.approx(0.25, rel=1e-3)
    assert any("lie close together" in note for note in data.notes)
    assert np.allclose(data.spec.decode(data.batch(range(2000))[0]), values, atol=1e-4)
    counts = np.where(values == 100, 5000, rng.poisson(20, (2000, 1)))
    spec = load_data(counts).spec
    assert spec.bins is None
    assert spec.levels == 5000 - counts.min() + 1
    assert np.array_equal(spec.decode(spec.encode(counts)), counts)


def test_a_picture_is_drawn_in_its_custom_range_and_learned_in_its_own():
    """Grey values between 0.3 and 0.6 of 0..1 look so, whatever scale they are learned in; faint ones are stretched."""
    values = 0.3 + 0.3 * np.random.default_rng(0).random((40, 1, 8, 8))
    data = load_data(values)
    assert data.spec.low == values.min()
    assert (data.spec.least, data.spec.most) == (0, 1)
    assert np.abs(picture(data.spec, data.batch([0])[0])[0, ..., 0] - 255 * values[0, 0]).max() <= 0.51
    faint = load_data(values * 1e-6)
    assert np.ptp(picture(faint.spec, faint.batch(range(40))[0])) == 255
    assert any("drawn from" in note for note in faint.notes)


def test_a_run_goes_on_with_the_scale_that_it_began_with(tmp_path):
    """Also where a later version would choose another; a run of a version that kept none is refused by name."""
    data = load_data(values_of("points") / 3)
    begun = copy.copy(data)
    begun.spec = DataSpec("array", "array", (2,), -1.0, 1.0, None)  # as it was before the scale followed the data
    options = {"images": 640, "settings": orn.Settings(network="mlp", options=SMALL["points"][1], batch=64)}
    assert orn.Trainer(begun, out=tmp_path, **options).fit().data == begun.spec
    assert orn.Trainer(data, out=tmp_path, resume=True, **options).fit().data == begun.spec

    state, _ = Run(tmp_path).states(2).newest()
    note = {key: value for key, value in state.metadata.items() if key != "spec"}
    Run(tmp_path).states(2).write(641, load_file(state.path / "state.safetensors"), note, Engine())
    assert orn.Trainer(begun, out=tmp_path, resume=True, **options).fit().data == begun.spec
    with pytest.raises(ValueError, match="started by an older version of Ornstein, which scaled the data differently"):
        orn.Trainer(data, out=tmp_path, resume=True, **options).fit()


def test_a_spec_from_before_scale_and_drawing_parted_is_read():
    record = DataSpec("x", "picture", (1, 4, 4), 0.0, 1.0, None).as_dict()
    del record["least"], record["most"]
    spec = DataSpec.from_dict(record)
    assert (spec.least, spec.most) == (0, 1)
    assert DataSpec.from_dict({**record, "low": [0.0], "high": [2.0], "kind": "array"}).levels == (None,)
