"""Models of diffusers: the same pictures as its own loops, the likelihood of its own chain, and folders that lie."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import ornstein as orn
from adopted_models import pipeline, unet
from ornstein.diffusion.samplers.rule import Call

diffusers = pytest.importorskip("diffusers")
UNET, SCHEDULER, INDEX = "unet/config.json", "scheduler/scheduler_config.json", "model_index.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
TRAILING = {"timestep_spacing": "trailing"}


class SigmaHeun(orn.Rule):
    """Heun's rule in noise / signal, as diffusers has it; ours turns with the rotation."""

    order, calls = 2, 2

    def advance(self, step):
        keep = step.s.signal / step.t.signal
        gain = step.s.noise - step.t.noise * keep
        z = step.mix(z=keep, eps=gain)
        if step.last:
            return z
        return step.mix(z=keep, eps=[gain / 2, gain / 2], calls=[step.calls[0], Call(step.s, step.denoise(z, step.s))])


@pytest.fixture(scope="module")
def network():
    return unet()


@torch.no_grad()
def walked(network, scheduler, z, steps):
    """Samples by diffusers' own loop, from z at t = 1."""
    scheduler.set_timesteps(steps)
    if isinstance(scheduler, diffusers.EulerDiscreteScheduler | diffusers.HeunDiscreteScheduler):
        z = z * (1 + scheduler.sigmas[0] ** 2) ** 0.5
    for t in scheduler.timesteps:
        z = scheduler.step(network(scheduler.scale_model_input(z, t), t).sample, t, z).prev_sample
    return z


@pytest.mark.parametrize(("scheduler", "rule", "predicts", "options"), [
    ("DDIMScheduler", "ddim", "epsilon", {"clip_sample": False}),
    ("DDIMScheduler", "ddim", "sample", {"clip_sample": False, "beta_schedule": "scaled_linear"}),
    ("DDIMScheduler", "ddim", "v_prediction", {"clip_sample": False, "num_train_timesteps": 100,
                                               "trained_betas": [0.001 * k for k in range(1, 101)]}),
    ("DPMSolverMultistepScheduler", "dpm++", "epsilon", {}),
    ("EulerDiscreteScheduler", "ddim", "v_prediction", {}),
    ("HeunDiscreteScheduler", SigmaHeun(), "sample", {"beta_start": 1e-4}),
])
def test_the_same_noise_and_times_give_the_same_pictures(network, scheduler, rule, predicts, options):
    """To 1e-5 of the largest value, for a step of a rule is the step of a scheduler: at index i is t = (i + 1) / T."""
    theirs = getattr(diffusers, scheduler)(prediction_type=predicts, **TRAILING, **options)
    model = orn.adopt(network, schedule=theirs)
    z = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = walked(network, theirs, z, 5)
    mine = orn.sample(model, z=z, sampler=rule, times=[1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    torch.testing.assert_close(mine, wanted, atol=1e-5 * max(1.0, float(wanted.abs().max())), rtol=0)


@pytest.mark.parametrize(("scheduler", "options"), [
    ("EDMEulerScheduler", {}), ("EDMEulerScheduler", {"prediction_type": "v_prediction", "sigma_data": 0.7}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "num_train_timesteps": 500}),
    ("EulerDiscreteScheduler", {"timestep_type": "continuous", "prediction_type": "v_prediction", "sigma_min": 0.01,
                                "sigma_max": 50.0, "use_karras_sigmas": True}),
])
def test_noise_that_explodes_and_straight_paths_are_walked_as_diffusers_does(network, scheduler, options):
    """To 1e-5 of the largest value, on diffusers' own noise levels."""
    theirs = getattr(diffusers, scheduler)(**options)
    model = orn.adopt(network, schedule=theirs)
    theirs.set_timesteps(6)
    straight = scheduler.startswith("Flow")
    z = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * (1 if straight else theirs.sigmas[0])
    wanted = z
    with torch.no_grad():
        for t in theirs.timesteps:
            seen = wanted if straight else theirs.scale_model_input(wanted, t)
            wanted = theirs.step(network(seen, t).sample, t, wanted).prev_sample
    sigmas = theirs.sigmas.double()
    times = sigmas if straight else model.schedule.time(-2 * sigmas.log())
    mine = orn.sample(model, z=z, sampler="ddim", times=times)
    torch.testing.assert_close(mine, wanted, atol=1e-5 * max(1.0, float(wanted.abs().max())), rtol=0)


@pytest.mark.parametrize("kind", ["positional", "fourier"])
def test_a_model_of_the_ve_sde_has_the_score_that_diffusers_steps_by(kind, tmp_path):
    """Its predictor, which adds (sigma^2 - sigma'^2) score, with the model's file in the network's place."""
    theirs, network = diffusers.ScoreSdeVeScheduler(sigma_max=50.0), unet(time_embedding_type=kind)
    orn.save(orn.adopt(network, schedule=theirs), tmp_path / "m.safetensors")
    model = orn.load(tmp_path / "m.safetensors")
    theirs.set_timesteps(8)
    theirs.set_sigmas(8)
    one = other = theirs.init_noise_sigma * torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for sigma, t in zip(theirs.sigmas, theirs.timesteps, strict=True):
            own = model(other, model.schedule.time(-2 * sigma.double().log())).score
            draws = (torch.Generator().manual_seed(1) for _ in range(2))
            one = theirs.step_pred(network(one, sigma.expand(3)).sample, t, one, next(draws)).prev_sample
            other = theirs.step_pred(own, t, other, next(draws)).prev_sample
    torch.testing.assert_close(other, one, atol=1e-5 * float(one.abs().max()), rtol=0)
    if kind == "fourier":
        with pytest.raises(ValueError, match="takes the logarithm of its time, and convention 'eps' has times of 0"):
            orn.adopt(network, schedule=diffusers.DDPMScheduler())


@pytest.mark.parametrize("scheduler", ["EDMEulerScheduler", "ScoreSdeVeScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_classes_are_told_under_any_scheduler(scheduler):
    model = orn.adopt(unet(num_class_embeds=3), schedule=getattr(diffusers, scheduler)())
    one, other, same = model(torch.ones(3, 1, 8, 8), 0.5, torch.tensor([0, 2, 0])).v
    assert torch.allclose(one, same, atol=1e-5)
    assert (one - other).abs().max() > 1e-4 * one.abs().max()


def test_weights_in_several_files_are_one_model(tmp_path, whole):
    folder = shutil.copytree(whole, tmp_path / "p")
    sharded(folder, "c.safetensors")
    found, wanted = (orn.adopt(one).state_dict() for one in (folder, whole))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("options", [
    {"beta_schedule": "squaredcos_cap_v2"}, {"rescale_betas_zero_snr": True}, {"clip_sample": True},
    {"clip_sample": True, "clip_sample_range": 0.3}, {"thresholding": True, "sample_max_value": 1.5}])
def test_ends_without_signal_and_limits_of_x_are_as_the_scheduler_says(network, options):
    """The last step of a chain may take all signal; x-hat is clamped or thresholded, and the noise with it."""
    theirs = diffusers.DDIMScheduler(prediction_type="v_prediction", **{"clip_sample": False, **TRAILING, **options})
    model = orn.adopt(network, schedule=theirs)
    z = 2 * torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs.set_timesteps(5)
    wanted = z
    for t in theirs.timesteps:
        wanted = theirs.step(network(wanted, t).sample, t, wanted, use_clipped_model_output=True).prev_sample
    mine = orn.sample(model, z=z, sampler="ddim", times=[1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_the_chain_of_a_beta_schedule_is_the_librarys(network, name):
    theirs = diffusers.DDPMScheduler(beta_schedule=name, prediction_type="v_prediction")
    model = orn.adopt(network, schedule=theirs)
    torch.testing.assert_close(model.schedule.alpha[1:].float(), theirs.alphas_cumprod, atol=1e-6, rtol=1e-4)


def test_a_prediction_of_noise_leaves_out_steps_where_it_says_nothing(network):
    with pytest.warns(RuntimeWarning, match="the last 1 of 1000 steps are left out"):
        model = orn.adopt(network, schedule=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
    cumulative = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod[:-1]
    torch.testing.assert_close(model.schedule.alpha[1:].float(), cumulative, atol=1e-6, rtol=1e-4)


def test_the_bound_is_that_of_the_librarys_own_chain():
    """Prior, divergences and reconstruction by the formulas of Ho et al. 2020 with the library's own alphas_cumprod:
    less than 0.01 bits a value apart."""
    theirs = diffusers.DDPMScheduler(prediction_type="sample", num_train_timesteps=10, beta_start=0.02, beta_end=0.5)
    network = unet()
    network.conv_out.weight *= 0.1  # so that few draws tell the expectation
    x = torch.linspace(-0.9, 0.9, 64).reshape(1, 1, 8, 8)
    mine = orn.elbo(orn.adopt(network, schedule=theirs), x.expand(64, 1, 8, 8), [k / 10 for k in range(11)])
    alpha, beta = theirs.alphas_cumprod.double(), theirs.betas.double()
    nats = float((alpha[-1] * x.double() ** 2 - alpha[-1] - (1 - alpha[-1]).log()).sum() / 2)
    draws = torch.Generator().manual_seed(1)
    for i in range(10):
        z = alpha[i].sqrt() * x + (1 - alpha[i]).sqrt() * torch.randn(64, 1, 8, 8, generator=draws)
        square = float((network(z.float(), i).sample.clamp(-1, 1) - x).square().sum((1, 2, 3)).mean())
        if i:
            before = alpha[i - 1]
            share, variance = before.sqrt() * beta[i] / (1 - alpha[i]), beta[i] * (1 - before) / (1 - alpha[i])
            nats += float(share**2 / variance) * square / 2
        else:
            spread = float((1 - alpha[0]) / alpha[0])
            nats += square / (2 * spread) + 32 * math.log(2 * math.pi * spread)
    assert float(mine.log_prob.mean()) == pytest.approx(-nats, abs=0.01 * 64 * math.log(2))


def test_fractional_times_lie_between_the_steps_and_the_first_step_is_told_the_first(network):
    model = orn.adopt(network, schedule=diffusers.DDPMScheduler(clip_sample=False, prediction_type="sample"))
    z = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for t, index in ((0.5005, 499.5), (0.5, 499.0), (0.001, 0.0), (0.0004, 0.0), (1.0, 999.0)):
        with torch.no_grad():
            torch.testing.assert_close(model(z, t).x, network(z, torch.tensor([index])).sample, atol=1e-4, rtol=0)


def test_learned_variances_are_dropped_and_classes_told(tmp_path):
    """A pipeline's folder and the live pipeline are one model, which its file gives back bit for bit."""
    folder = pipeline(tmp_path / "p", options={"clip_sample": False}, out_channels=2, num_class_embeds=4)
    live = diffusers.DDPMPipeline.from_pretrained(folder)
    z, told = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3])
    with torch.no_grad():
        eps = live.unet.eval()(z, 499, class_labels=told).sample[:, :1]
    model = orn.adopt(folder, classes=["a", "b", "c", "d"])
    torch.testing.assert_close(model(z, 0.5, ["a", "d"]).eps, eps, atol=1e-5, rtol=0)
    assert torch.equal(orn.adopt(live)(z, 0.5, told).v, model(z, 0.5, told).v)
    with pytest.raises(ValueError, match="never trained without a class"):
        model(z, 0.5)
    with pytest.raises(ValueError, match="null is 4; it must be a whole number, from 0 to 3"):
        orn.adopt(folder, null=4)
    guided = orn.adopt(folder, null=3)
    assert guided.classes == 3
    assert torch.equal(guided(z, 0.5).v, model(z, 0.5, 3).v)
    orn.save(model, tmp_path / "m.safetensors")
    again = orn.load(tmp_path / "m.safetensors")
    assert torch.equal(again(z, 0.5, told).v, model(z, 0.5, told).v)
    assert (again.data, again.origin, again.schedule.T) == (model.data, model.origin, 1000)


def test_old_names_of_attention_and_weights_in_a_bin_file_are_read(tmp_path):
    folder = pipeline(tmp_path / "p")
    model = orn.adopt(folder)
    old = {name.replace("to_q", "query").replace("to_k", "key").replace("to_v", "value").replace(
        "to_out.0", "proj_attn"): value for name, value in model.network.unet.state_dict().items()}
    (folder / WEIGHTS).unlink()
    torch.save(old, folder / "unet" / "diffusion_pytorch_model.bin")
    z = torch.ones(1, 1, 8, 8)
    torch.testing.assert_close(orn.adopt(folder)(z, 0.5).v, model(z, 0.5).v, atol=1e-6, rtol=0)


class Canary:
    """What runs if it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def config(folder, part, **changed):
    place = folder / part
    place.write_text(json.dumps({**json.loads(place.read_text()), **changed}))


def replaced(folder, part, **options):
    (folder / part).write_text(json.dumps(options))


def sharded(folder, last, whole=True):
    """Weights in two files with an index, by which the last of them is elsewhere, or is not there."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    (folder / WEIGHTS).unlink()
    places = {name: "a.safetensors" if number % 2 else "c.safetensors" for number, name in enumerate(names)}
    places[names[-1]] = "c.safetensors"
    for place in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == place}, folder / "unet" / place)
    places[names[-1]] = last
    if not whole:
        del places[names[0]]
    (folder / "unet" / f"{WEIGHTS[5:]}.index.json").write_text(json.dumps({"weight_map": places}))


def unpickled(folder):
    (folder / WEIGHTS).unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Canary(folder.parent / "ran"), 2))


HOSTILE = {
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "diffusion_pytorch_model.safetensors does not exist"),
    "no scheduler": (lambda f: (f / SCHEDULER).unlink(), "scheduler_config.json does not exist"),
    "cut": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:5000]), "not a complete safetensors file"),
    "shapes": (lambda f: config(f, UNET, block_out_channels=[8, 32]), "weights are of another network"),
    "type": (lambda f: config(f, UNET, block_out_channels="evil"), "block_out_channels is 'evil'"),
    "unknown": (lambda f: config(f, UNET, evil=1), "key 'evil' is unknown"),
    "escape": (lambda f: config(f, SCHEDULER, **{"\x1b[31m": 1}), r"key '\\x1b\[31m' is unknown"),
    "huge": (lambda f: config(f, UNET, block_out_channels=[10**9, 10**9]), "block_out_channels is .1000000000"),
    "endless": (lambda f: config(f, UNET, layers_per_block=10**9), "layers_per_block is 1000000000"),
    "steps": (lambda f: config(f, SCHEDULER, num_train_timesteps=10**12), "num_train_timesteps is 1000000000000"),
    "betas": (lambda f: config(f, SCHEDULER, beta_end=5.0), r"beta\[\d+\] is"),
    "pickle": (unpickled, "holds more than tensors, and was not read"),
    "code": (lambda f: (f / "unet" / "evil.py").write_text("raise SystemExit"), "evil.py is code"),
    "auto_map": (lambda f: config(f, UNET, auto_map={"AutoModel": "evil.Evil"}), "has an auto_map"),
    "custom": (lambda f: config(f, INDEX, unet=["evil", "Evil"]), "code of its own is never run"),
    "text": (lambda f: config(f, UNET, _class_name="UNet2DConditionModel"), "models with text cannot be adopted"),
    "latents": (lambda f: config(f, INDEX, vae=["diffusers", "AutoencoderKL"]), "latents of an autoencoder"),
    "consistency": (lambda f: config(f, SCHEDULER, _class_name="CMStochasticIterativeScheduler"),
                    "not the scheduler of a"),
    "backwards": (lambda f: replaced(f, SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler", invert_sigmas=True),
                  "invert_sigmas is true"),
    "sigmas": (lambda f: replaced(f, SCHEDULER, _class_name="EDMEulerScheduler", sigma_min=-1.0), "sigma_min is -1.0"),
    "embedding": (lambda f: config(f, UNET, time_embedding_type="learned"), "only 'positional' and 'fourier' support"),
    "shard elsewhere": (lambda f: sharded(f, "../unet/a.safetensors"), "names the file '../unet/a.safetensors'"),
    "shard gone": (lambda f: sharded(f, "b.safetensors"), "b.safetensors does not exist"),
    "shard of more": (lambda f: sharded(f, "a.safetensors", False), "which diffusion_pytorch_model.*index.json has in"),
    "zero": (lambda f: config(f, SCHEDULER, rescale_betas_zero_snr=True), "rescale_betas_zero_snr and the"),
    "pipe": (lambda f: ((f / WEIGHTS).unlink(), os.mkfifo(f / WEIGHTS)), "is not a regular file"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return pipeline(tmp_path_factory.mktemp("whole") / "p")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_broken_folder_is_refused_in_one_line(tmp_path, whole, name):
    """Nothing that it names is run, and nothing is built."""
    spoil, message = HOSTILE[name]
    folder = shutil.copytree(whole, tmp_path / "p")
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        orn.adopt(folder)
    assert str(caught.value).isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p"]


def test_a_models_file_may_say_anything_of_an_adopted_model(tmp_path, whole):
    """Each entry is checked before anything is built, as for models of our own."""
    from ornstein.checkpoint import read, write

    orn.save(orn.adopt(whole), tmp_path / "m.safetensors")
    tensors, facts = read(tmp_path / "m.safetensors")
    card = facts["adopted"]
    options = card["network"]["options"]
    for changed, message in (
            ({"convention": "evil"}, "convention 'evil' is unknown"), ({"classes": "3"}, "adopted classes is '3'"),
            ({"threshold": [2]}, "adopted threshold"), ({"null": -7}, "null is -7"),
            ({"network": {"name": "evil", "options": {}}}, "network 'evil' is unknown"),
            ({"network": {"name": "onnx", "options": {}}}, "no ONNX graph"),
            ({"network": {"name": "UNet2DModel", "options": {**options, "in_channels": 10**9}}}, "in_channels"),
            ({"network": {"name": "UNet2DModel", "options": {**options, "evil": 1}}}, "key 'evil' is unknown")):
        write(tmp_path / "n.safetensors", tensors, {**facts, "adopted": {**card, **changed}})
        with pytest.raises(ValueError, match=f"n.safetensors: .*{message}"):
            orn.load(tmp_path / "n.safetensors")
