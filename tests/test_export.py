"""Models as other programs take them: ONNX graphs, folders for the Hub, times for samplers of other libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import ornstein as orn
from adopted_models import unet
from conftest import SCHEDULES, Squared
from ornstein.diffusion.linear import LinearGuess
from ornstein.diffusion.samplers.choice import Choice
from ornstein.exporting.decode import Decode
from ornstein.exporting.times import timesteps
from public_calls import weights

BYTES = orn.DataSpec("faces", "picture", (3, 6, 5), 0.0, 255.0, 256, classes=("cat", "dog"), layout="HWC")


def guess(*shape: int) -> LinearGuess:
    return LinearGuess(torch.from_numpy(np.random.default_rng(0).uniform(0.1, 1, np.prod(shape))), shape=shape)


def faces() -> orn.NetworkDenoiser:
    """Pictures in bytes, with a U-Net and a walk that was tuned for guidance 2."""
    network = weights(orn.UNet((3, 6, 5), classes=2, widths=[8, 8], depths=[1, 0], hints=True))
    model = orn.NetworkDenoiser(network, orn.Cosine(), (3, 6, 5), data_std=0.5, data_mean=0.1, linear=guess(3, 6, 5),
                                x_range=(-1.0, 1.0), data=BYTES).eval()
    times = torch.tensor([1.0, 0.7, 0.3, 0.0], dtype=torch.float64)
    choice = Choice(3, "deis", tuple(times.tolist()), tuple(model.schedule.level(times).angle.tolist()), damping=0.1,
                    guidance=2.0)
    model.tuned[choice.key] = choice
    return model


def opened(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def latents(model: orn.NetworkDenoiser, rows: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(rows).standard_normal((rows, *model.shape), dtype=np.float32))


def told(model: orn.NetworkDenoiser, rows: int) -> dict[str, torch.Tensor]:
    """A condition for each row by the name of its input, "none" among them; nothing for a model that takes none."""
    if model.network.options["classes"]:
        return {"class": torch.arange(rows) % (model.network.options["classes"] + 1) - 1}
    if count := model.network.options.get("conditions"):
        given = torch.from_numpy(np.random.default_rng(3).standard_normal((rows, count), dtype=np.float32))
        given[1:2] = float("nan")
        return {"condition": given}
    return {}


def check_denoiser(model: orn.NetworkDenoiser, path: Path) -> None:
    """The graph of the denoiser gives what PyTorch gives, whatever the number of rows."""
    orn.export(model, path)
    session = opened(path)
    for rows in (1, 7):
        z, given = latents(model, rows), told(model, rows)
        log_snr = torch.linspace(-6, 6, rows)
        found = session.run(["x", "eps", "v"], {name: value.numpy() for name, value in (
            {"z": z, "log_snr": log_snr} | given).items()})
        with torch.no_grad():
            wanted = model(z, model.schedule.time(log_snr.double()), *given.values())
        for name, value in zip(("x", "eps", "v"), found, strict=True):
            np.testing.assert_allclose(value, getattr(wanted, name).numpy(), atol=1e-4, rtol=0)


def check_sampler(model: orn.NetworkDenoiser, path: Path, nfe: int, guidance: float | None = None) -> None:
    """The graph of the sampler gives what `sample` draws, in the data's own values."""
    orn.export(model, path, nfe, guidance=guidance)
    session = opened(path)
    for rows in (1, 7):
        z, given = latents(model, rows), told(model, rows)
        found, = session.run(["samples"], {"z": z.numpy(), **{name: value.numpy() for name, value in given.items()}})
        x = orn.sample(model, z=z, nfe=nfe, guidance=guidance, condition=next(iter(given.values()), None))
        if model.data is None:
            np.testing.assert_allclose(found, x.numpy(), atol=1e-4, rtol=0)
            continue
        wanted = model.data.arrange(model.data.decode(x))
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        apart = np.abs(found.astype(np.float64) - wanted)
        assert apart.max() <= 1  # where a value is on the edge of two levels
        assert (apart > 0).mean() < 0.02


def test_a_sampler_without_convolutions_draws_what_the_model_draws(tmp_path):
    """As the slow tests of this file show of all networks."""
    network = weights(orn.MLP((3, 6, 5), classes=2, width=8, depth=1))
    model = orn.NetworkDenoiser(network, orn.Cosine(), (3, 6, 5), data_std=0.5, data=BYTES).eval()
    check_sampler(model, tmp_path / "mlp.onnx", 2)


@pytest.fixture(scope="module")
def sampler(tmp_path_factory) -> Path:
    """A tuned, guided and damped sampler of pictures."""
    path = tmp_path_factory.mktemp("onnx") / "faces.onnx"
    check_sampler(faces(), path, 3, 2.0)
    return path


@pytest.mark.slow
def test_the_sampler_draws_what_the_model_draws_and_says_what_it_is(sampler):
    assert onnx.load(sampler).producer_name == "ornstein"
    says = json.loads(opened(sampler).get_modelmeta().custom_metadata_map["ornstein"])
    assert {name: says[name] for name in ("sampler", "tuned", "nfe", "guidance", "damping")} == {
        "sampler": "deis", "tuned": True, "nfe": 3, "guidance": 2.0, "damping": 0.1}
    assert orn.DataSpec.from_dict(says["data"]) == BYTES
    assert str(Path.cwd()).encode() not in sampler.read_bytes()  # nothing of the machine that made it


@pytest.mark.slow
def test_the_sampler_needs_onnxruntime_and_numpy_alone(sampler):
    code = ("import sys, numpy as np, onnxruntime\n"
            f"session = onnxruntime.InferenceSession({str(sampler)!r})\n"
            "z = np.random.default_rng(0).standard_normal((2, 3, 6, 5), dtype=np.float32)\n"
            "pictures, = session.run(None, {'z': z, 'class': np.array([0, 1])})\n"
            "assert not {'torch', 'ornstein'} & set(sys.modules)\n"
            "print(pictures.shape, pictures.dtype)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 6, 5, 3) uint8\n"


def test_the_denoiser_is_the_network_with_its_scales_on_any_schedule_of_ours(tmp_path):
    model = orn.NetworkDenoiser(weights(orn.MLP((4,), width=16, depth=1, conditions=2)), orn.Linear(), (4,),
                                predicts="x", data_std=torch.tensor([0.5, 1.0, 2.0, 0.1]), data_mean=0.3,
                                condition_mean=[1.0, 2.0], condition_std=[0.5, 3.0]).eval()
    check_denoiser(model, tmp_path / "mlp.onnx")


NETWORKS = {
    "unet-1d": (orn.UNet, (2, 11), {"widths": [8, 8], "depths": [1, 1], "stem": 2, "attention": True}),
    "unet-2d": (orn.UNet, (3, 10, 7), {"widths": [8, 16], "depths": [1, 1], "attention": True, "stem": 2}),
    "unet-3d": (orn.UNet, (1, 4, 6, 5), {"widths": [8, 8], "depths": [1, 1], "attention": True, "stem": 2}),
    "dit-1d": (orn.DiT, (2, 8), {"width": 12, "depth": 1}),
    "dit-2d": (orn.DiT, (1, 6, 4), {"width": 12, "depth": 2}),
    "dit-3d": (orn.DiT, (1, 4, 4, 2), {"width": 12, "depth": 1}),
    "mlp-1d": (orn.MLP, (5,), {"width": 16, "depth": 2}),
    "mlp-2d": (orn.MLP, (3, 4), {"width": 16, "depth": 1}),
    "mlp-3d": (orn.MLP, (1, 3, 2, 2), {"width": 16, "depth": 1}),
}
KNOWN = {"alone": {}, "classes": {"classes": 3}, "vectors": {"conditions": 2}}


@pytest.mark.slow
@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_a_graph_whatever_it_is_told(name, known, tmp_path):
    kind, shape, options = NETWORKS[name]
    model = orn.NetworkDenoiser(weights(kind(shape, **options, **KNOWN[known])), orn.Cosine(), shape).eval()
    check_denoiser(model, tmp_path / "denoiser.onnx")
    check_sampler(model, tmp_path / "sampler.onnx", 4, None if known == "alone" else 1.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain-linear", "cosine", "linear", "exploding", "own"])
def test_every_schedule_has_a_sampler(name, tmp_path):
    model = orn.NetworkDenoiser(weights(orn.MLP((3,), width=8, depth=1)), SCHEDULES[name], (3,)).eval()
    check_sampler(model, tmp_path / "sampler.onnx", 20)
    if name != "own":
        check_denoiser(model, tmp_path / "denoiser.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["rk4", "dpm2", "dpm++2s", "heun", "unipc"])
def test_every_rule_that_a_model_may_be_tuned_to_is_a_graph(rule, tmp_path):
    model = orn.NetworkDenoiser(weights(orn.MLP((3,), width=8, depth=1)), orn.Cosine(), (3,)).eval()
    times = orn.grid(model.schedule, 3)
    model.tuned[12] = Choice(12, rule, tuple(times.tolist()), tuple(model.schedule.level(times).angle.tolist()))
    check_sampler(model, tmp_path / "sampler.onnx", 12)


class Own(nn.Module):
    """A network of a user's own, one line of which no graph can have."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.layer, self.fault = nn.Linear(4, 4), fault

    def forward(self, y, log_snr, condition):
        y = self.layer(y)
        if self.fault == "rows":
            return y.view(3, 4)
        if self.fault == "values":
            return y if y.mean() > 0 else -y
        return y * torch.special.bessel_j0(y)


@pytest.mark.parametrize(("fault", "why"), [
    ("rows", "fixes the number of rows"), ("values", r"values of a tensor, in `return y if y.mean\(\) > 0"),
    pytest.param("operation", "no operation for .*bessel_j0", marks=pytest.mark.slow)])
def test_what_onnx_cannot_express_is_named_and_nothing_is_left(fault, why, tmp_path):
    model = orn.NetworkDenoiser(Own(fault), orn.Cosine(), (4,))
    with pytest.raises(ValueError, match=why):
        orn.export(model, tmp_path / "own.onnx")
    assert list(tmp_path.iterdir()) == []


class Shrinking(orn.Denoiser):
    """A denoiser of a user's own, with a network that sees signal and noise."""

    def __init__(self) -> None:
        super().__init__(orn.Cosine(), (4,))
        self.layer = nn.Linear(6, 4)

    def forward(self, z, t, condition=None):
        level = self.level(z, t)
        told = torch.cat([z, *(entry.expand(z.shape[0], 1) for entry in level)], 1)
        return orn.Estimate.from_x(self.layer(told), z, level)


class Doubled(orn.NetworkDenoiser):
    """A network's denoiser whose answer is another one."""

    def forward(self, z, t, condition=None):
        estimate = super().forward(z, t, condition)
        return orn.Estimate.from_x(2 * estimate.x, z, self.level(z, t))


def doubled() -> orn.NetworkDenoiser:
    model = Doubled(nn.Identity(), orn.Chain.linear(), (4,))
    model.network.forward = lambda y, *_: 0.5 * y
    return model


@pytest.mark.parametrize("make", [Shrinking, pytest.param(doubled, marks=pytest.mark.slow)])
def test_a_denoiser_of_a_class_of_ones_own_draws_what_it_draws_here(make, tmp_path):
    """Also one that is a NetworkDenoiser but for what it answers."""
    torch.manual_seed(0)
    model = make().eval()
    with pytest.raises(ValueError, match="is not a network of the log SNR; give it"):
        orn.export(model, tmp_path / "own.onnx")
    orn.export(model, tmp_path / "own.onnx", 2)
    for rows in (1, 7):
        z = latents(model, rows)
        found, = opened(tmp_path / "own.onnx").run(["samples"], {"z": z.numpy()})
        np.testing.assert_allclose(found, orn.sample(model, z=z, nfe=2).detach().numpy(), atol=1e-5)


def test_a_u_net_of_diffusers_is_refused_by_name(tmp_path):
    """Its network takes what ours takes, and would give a graph of other pictures."""
    diffusers = pytest.importorskip("diffusers")
    model = orn.adopt(unet(), schedule=diffusers.DDPMScheduler())
    for nfe in (None, 3):
        with pytest.raises(ValueError, match="is a UNet2DModel of diffusers, whose code differs"):
            orn.export(model, tmp_path / "theirs.onnx", nfe)


def test_what_cannot_be_exported_is_refused(tmp_path):
    model = orn.NetworkDenoiser(orn.MLP((2,), width=8, depth=1), Squared(), (2,))
    for refused, error, arguments in (
            ("end in .onnx", ValueError, (model, "model.pt")),
            ("guidance is 2, but this model has no classes", ValueError, (model, "m.onnx", 3, 2.0)),
            ("guidance is 2.0, but nfe is not given", ValueError, (model, "m.onnx", None, 2.0)),
            ("Squared, whose signal and noise do not follow", ValueError, (model, "m.onnx")),
            ("nfe is 0", ValueError, (model, "m.onnx", 0)),
            ("is a Damped; only a denoiser itself", TypeError, (orn.Damped(model, 0.1), "m.onnx", 3))):
        own, name, nfe, guidance = (*arguments, None, None)[:4]
        with pytest.raises(error, match=refused):
            orn.export(own, tmp_path / name, nfe, guidance=guidance)
    assert list(tmp_path.iterdir()) == []


SPECS = {
    "bytes": BYTES,
    "few levels": orn.DataSpec("digits", "picture", (1, 4, 4), 0.0, 16.0, 17),
    "opacity": orn.DataSpec("icons", "picture", (4, 3, 3), 0.0, 255.0, 256, mode="RGBA"),
    "no levels": orn.DataSpec("fields", "array", (1, 4, 4), -3.5, 12.25, None, layout="HW"),
    "columns": orn.DataSpec("table", "array", (3,), (0.0, -1.0, 0.0), (9.0, 4.5, 1.0), (None, 12, 2)),
    "steps of a third": orn.DataSpec("thirds", "array", (2, 5), -1.0, 1.0, 7, layout="LC"),
    "beyond float64": orn.DataSpec("ids", "array", (1,), (2**53 + 1,), (2**53 + 11,), (6,)),
    "scale and levels apart": orn.DataSpec("shade", "array", (1, 6), 2.0, 3.0, 11, layout="L", least=0.0, most=5.0),
}


@pytest.mark.parametrize("name", SPECS)
def test_the_graph_decodes_as_the_data_do(name):
    spec = SPECS[name]
    x = torch.from_numpy(np.random.default_rng(0).uniform(-1.5, 1.5, (40, *spec.shape)).astype(np.float32))
    found, wanted = Decode(spec)(x).numpy(), spec.arrange(spec.decode(x))
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def walked(schedule: orn.Schedule) -> orn.NetworkDenoiser:
    return orn.NetworkDenoiser(nn.Identity(), schedule, (2,))


@pytest.mark.parametrize("name", SCHEDULES)
def test_times_are_a_falling_list_of_steps_and_the_noise_of_each(name):
    model = walked(SCHEDULES[name])
    steps = getattr(model.schedule, "T", 1000)
    for nfe in (1, 5, 20):
        if nfe > steps:
            with pytest.raises(ValueError, match=f"only {steps} steps"):
                timesteps(model, nfe)
            continue
        found = timesteps(model, nfe)
        assert all(a > b for a, b in zip(found["timesteps"], found["timesteps"][1:], strict=False))
        assert 0 <= found["timesteps"][-1] <= found["timesteps"][0] < steps
        assert found["sigmas"][-1] == 0
        assert np.isfinite(found["sigmas"]).all()
        assert all(a > b for a, b in zip(found["sigmas"], found["sigmas"][1:], strict=False))


@pytest.mark.parametrize("chain", [orn.Chain.linear(), orn.Chain(np.linspace(0.03, 0.12, 200) ** 2)])
def test_a_scheduler_of_diffusers_visits_the_noise_of_the_sampler(chain):
    """Given the time steps those of the chain, to a step; given the sigmas exactly those of the sampler."""
    diffusers = pytest.importorskip("diffusers")
    found = timesteps(walked(chain), 10)
    euler = diffusers.EulerDiscreteScheduler(**found["scheduler"])
    euler.set_timesteps(timesteps=found["timesteps"])
    places = (torch.tensor(found["timesteps"], dtype=torch.float64) + 1) / chain.T
    level = chain.level(places)
    np.testing.assert_allclose(euler.sigmas[:-1], level.noise / level.signal, rtol=1e-4)
    wanted = chain.time(-2 * torch.tensor(found["sigmas"][:-1], dtype=torch.float64).log())
    assert (wanted - places).abs().max() <= 1 / chain.T  # no step is before the first
    euler.set_timesteps(sigmas=found["sigmas"])
    np.testing.assert_allclose(euler.sigmas, found["sigmas"], rtol=1e-5)
    ddpm = diffusers.DDPMScheduler(**found["scheduler"])
    ddpm.set_timesteps(timesteps=found["timesteps"])
    np.testing.assert_allclose(ddpm.alphas_cumprod[ddpm.timesteps], level.signal**2, rtol=1e-4)
