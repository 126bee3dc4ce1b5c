"""A model on disk is the model in memory, and nothing else is ever loaded."""

from __future__ import annotations

import os
import pickle
import stat

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ornstein as orn
from ornstein import checkpoint
from ornstein.diffusion.linear import LinearGuess


def made(seed: int = 0, network: torch.nn.Module | None = None, shape=(1, 8, 8), **options) -> orn.NetworkDenoiser:
    torch.manual_seed(seed)
    network = network or orn.UNet(list(shape), classes=3, widths=[16, 32], depths=[1, 1])
    for value in network.parameters():  # the last layer starts at zero, where every network is alike
        torch.nn.init.normal_(value, std=0.1)
    x = torch.randn(40, *shape)
    options = {"data_std": 0.5, "data_mean": torch.randn(shape), "linear": LinearGuess.fit(x), "x_range": (-1, 1),
               "data": orn.DataSpec("own", "picture" if len(shape) == 3 else "array", shape, 0.0, 16.0, 17,
                                    ("a", "b", "c"))} | options
    return orn.NetworkDenoiser(network, orn.Cosine(), shape, **options).eval()


@pytest.mark.parametrize("network", ["unet", "dit", "mlp"])
@pytest.mark.parametrize("predicts", ["v", "x"])
def test_a_saved_model_draws_the_same_samples_bit_for_bit(tmp_path, network, predicts):
    body = {"unet": orn.UNet, "dit": orn.DiT, "mlp": orn.MLP}[network]((1, 8, 8), classes=3)
    model = made(network=body, predicts=predicts, precision="bf16")
    model.metrics = {"held_out": 0.5}
    orn.save(model, tmp_path / "m.safetensors")
    again = orn.load(tmp_path / "m.safetensors")
    assert again.data == model.data
    assert again.metrics == model.metrics
    drawn = [orn.sample(m, 3, condition=torch.tensor([0, 1, 2]), nfe=3) for m in (model, again)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize(("shape", "kind"), [((1, 8, 8), "principal"), ((2, 12), "waves"), ((2, 4, 6, 4), "waves")])
def test_samples_of_any_rank_and_guess_are_the_same_bit_for_bit(tmp_path, shape, kind):
    model = made(shape=shape, linear=LinearGuess.fit(torch.randn(40, *shape), kind))
    orn.save(model, tmp_path / "m.safetensors")
    assert torch.equal(orn.sample(model, 2, nfe=2), orn.sample(orn.load(tmp_path / "m.safetensors"), 2, nfe=2))


@pytest.mark.parametrize("schedule", [orn.Chain([0.1, 0.2, 0.7]), orn.Linear(), orn.Exploding(0.01, 20.0)])
def test_the_schedule_travels(tmp_path, schedule):
    model = made()
    model.schedule = schedule
    orn.save(model, tmp_path)
    again = orn.load(tmp_path).schedule
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    assert type(again) is type(schedule)
    for mine, theirs in zip(schedule.level(t), again.level(t), strict=True):
        assert torch.equal(mine, theirs)


def test_a_network_of_ones_own_is_given_again(tmp_path):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(0.3))

        def forward(self, y, log_snr, condition):
            return self.weight * y

    model = made(network=Own())
    orn.save(model, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"network of its user's own; give it: load\(path, network=\.\.\.\)"):
        orn.load(tmp_path / "own.safetensors")
    again = orn.load(tmp_path / "own.safetensors", network=Own())
    assert torch.equal(orn.sample(model, 2, nfe=2), orn.sample(again, 2, nfe=2))


def test_only_network_denoisers_are_saved(tmp_path):
    with pytest.raises(TypeError, match="ExactGaussian; only a NetworkDenoiser can be saved"):
        orn.save(orn.ExactGaussian(torch.zeros(2), torch.ones(2), orn.Cosine()), tmp_path / "m.safetensors")


def test_a_model_is_readable_by_whoever_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        orn.save(made(), tmp_path / "m.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m.safetensors").stat().st_mode) == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


def test_every_truncation_is_refused(tmp_path):
    orn.save(made(), tmp_path / "m.safetensors")
    whole = (tmp_path / "m.safetensors").read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.safetensors is not a complete safetensors file"):
            orn.load(tmp_path / "cut.safetensors")


def test_a_pickle_under_another_name_is_refused_and_never_run(tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it-ran"),)

    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Canary()))
    torch.save({"x": Canary()}, tmp_path / "torch.safetensors")
    for name in ("model.safetensors", "torch.safetensors"):
        with pytest.raises(ValueError, match="not a complete safetensors file"):
            orn.load(tmp_path / name)
    assert not (tmp_path / "it-ran").exists()


def rewritten(tmp_path, change) -> str:
    """A saved model whose description was changed."""
    orn.save(made(), tmp_path / "m.safetensors")
    tensors, facts = checkpoint.read(tmp_path / "m.safetensors")
    change(facts, tensors)
    checkpoint.write(tmp_path / "m.safetensors", tensors, facts)
    return str(tmp_path / "m.safetensors")


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has format 99; this version of Ornstein reads format 1"):
        orn.load(rewritten(tmp_path, lambda facts, _: facts.update(format=99)))


def test_tensors_of_another_network_are_refused_by_name(tmp_path):
    wider = lambda facts, _: facts["network"]["options"].update(widths=[16, 48])  # noqa: E731
    with pytest.raises(ValueError, match=r"the file holds another network: down_blocks\.1\.0\.first\.bias is \(32,\)"):
        orn.load(rewritten(tmp_path, wider))


@pytest.mark.parametrize("options", [{"widths": [16, 10**6]}, {"depths": [1, 10**9]}, {"widths": [16, 10**12]},
                                     {"embedding": 10**15}, {"widths": [16, -4]}, {"depths": ["a", "b"]},
                                     {"depths": [10**8, -(10**8)]},
                                     {"widths": [1] * 20_000, "depths": [0] * 20_000}])
def test_a_description_cannot_make_us_allocate_or_work(tmp_path, options):
    huge = lambda facts, _: facts["network"]["options"].update(options)  # noqa: E731
    with pytest.raises(ValueError, match=r"the file holds another network|(widths|depths)\[\d\] is .*; it must be"):
        orn.load(rewritten(tmp_path, huge))


def test_any_bit_that_flips_is_noticed(tmp_path):
    file = tmp_path / "m.safetensors"
    orn.save(made(), file)
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, header, 50), *rng.integers(header, len(whole), 50)]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        file.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"m\.safetensors"):
            orn.load(file)


def test_unknown_names_in_a_description_are_refused(tmp_path):
    with pytest.raises(ValueError, match="network 'unett' is unknown; did you mean 'unet'"):
        orn.load(rewritten(tmp_path, lambda facts, _: facts["network"].update(name="unett")))
    with pytest.raises(ValueError, match="option of network 'unet' 'width' is unknown; did you mean 'widths'"):
        orn.load(rewritten(tmp_path, lambda facts, _: facts["network"]["options"].update(width=3)))


def test_a_file_of_somebody_else_and_a_missing_one(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "theirs.safetensors")
    with pytest.raises(ValueError, match="not one that Ornstein wrote"):
        orn.load(tmp_path / "theirs.safetensors")
    with pytest.raises(FileNotFoundError, match="does not exist; train a model first"):
        orn.load(tmp_path / "nothing")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    orn.save(made(0), tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        orn.save(made(1), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["diagonal", "principal", "waves"])
def test_latents_of_any_precision_give_samples_of_theirs(dtype, kind):
    model = made(linear=LinearGuess.fit(torch.randn(80, 1, 8, 8), kind))
    z = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    exact, rough = orn.sample(model, z=z, nfe=4), orn.sample(model, z=z.to(dtype), nfe=4)
    assert rough.dtype == dtype
    assert (rough.float() - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("condition", [3, -2, torch.tensor([0, 1, 2]), 0.5])
def test_a_class_that_is_not_there_is_refused_before_the_network_sees_it(condition):
    with pytest.raises(ValueError, match="condition"):
        made()(torch.zeros(2, 1, 8, 8), 0.5, condition)
