"""A model of another library is the same model here: networks that know the law of their data are read by the
convention of each, and the estimates are the law's own."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

import ornstein as orn
from adopted_models import MEAN, VARIANCE, clean, graph

T = torch.tensor([0.02, 0.2, 0.5, 0.8, 0.97], dtype=torch.float64)


def eps_of(x, signal, noise):
    return (x - signal[:, None] * clean(x, signal, noise)) / noise[:, None]


def vp(t):
    """Signal and noise of the VP SDE with rates from 0.1 to 20."""
    signal = torch.exp(-0.05 * t - 19.9 * t**2 / 4)
    return signal, torch.sqrt(1 - signal**2)


def angle(t):
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


def chain(index):
    """Signal and noise as a library that counts steps from 0 has them."""
    alpha = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(
        1 - torch.linspace(0.01, 0.3, 20, dtype=torch.float64), 0)])[(index + 1).round().long()]
    return alpha.sqrt(), (1 - alpha).sqrt()


def one(sigma):
    return torch.ones_like(sigma), sigma


def sub_vp(t):
    signal = vp(t)[0]
    return signal, 1 - signal**2


def inside(y, told, sign):
    """F of Karras et al. 2022, table 1, for a deviation of 0.5."""
    sigma = (4 * told).exp()
    radius = torch.sqrt(sigma**2 + 0.25)
    x = radius[:, None] * y
    return sign * (clean(x, *one(sigma)) - (0.25 / radius**2)[:, None] * x) / (0.5 * sigma / radius)[:, None]


# By convention: what its library's network would be for Gaussian data, its schedule, and times to ask at.
CASES = {
    "x": (lambda z, t: clean(z, *angle(t)), orn.Cosine(), {}, T),
    "eps": (lambda z, i: eps_of(z, *chain(i)), orn.Chain.linear(20, 0.01, 0.3), {"time": "index"},
            torch.tensor([1, 2, 10, 19, 20], dtype=torch.float64) / 20),
    "v": (lambda z, t: angle(t)[0][:, None] * eps_of(z, *angle(t)) - angle(t)[1][:, None] * clean(z, *angle(t)),
          orn.Cosine(), {}, T),
    "k-diffusion": (lambda x, sigma: clean(x, *one(sigma)), None, {}, 0.8 * T + 0.15),
    "edm": (lambda x, sigma: clean(x, *one(sigma)), orn.Chain.linear(), {}, T),
    "score_sde": (lambda x, t: -eps_of(x, *vp(t)) / vp(t)[1][:, None], None, {}, T),
    "score_sde ": (lambda x, t: -eps_of(x, *one(0.01 * 5000**t)) / (0.01 * 5000**t)[:, None],
                   orn.Exploding(0.01, 50.0), {}, 0.8 * T + 0.15),
    "sub-vp": (lambda x, t: -eps_of(x, *sub_vp(t)) / sub_vp(t)[1][:, None], None, {}, T),
    "score": (lambda x, sigma: -eps_of(x, *one(sigma)) / sigma[:, None], None, {}, 0.8 * T + 0.15),
    "edm-inside": (lambda y, told: inside(y, told, 1), None, {}, 0.8 * T + 0.15),
    "edm-v": (lambda y, told: inside(y, told, -1), orn.Chain.linear(), {}, T),
    "flow": (lambda x, t: eps_of(x, 1 - t, t) - clean(x, 1 - t, t), None, {}, T),
    "flow_matching": (lambda x, t: clean(x, t, 1 - t) - eps_of(x, t, 1 - t), None, {}, T),
    "torchcfm": (lambda t, x: clean(x, t, 1 - t) - eps_of(x, t, 1 - t), orn.Cosine(), {}, T),
}


@pytest.mark.parametrize("name", CASES)
def test_a_network_is_read_by_the_convention_of_its_library(name):
    """Its estimates, of data and of velocity, are those of the law itself, on its usual schedule or on another."""
    network, schedule, options, t = CASES[name]
    model = orn.adopt(network, convention=name.strip(), schedule=schedule, shape=(2,), **options)
    law = orn.ExactGaussian(MEAN, VARIANCE, model.schedule)
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = z * model.schedule.level(t).radius[:, None]
    torch.testing.assert_close(model(z, t).x, law(z, t).x, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(model(z, t).v, law(z, t).v, atol=1e-6, rtol=1e-6)


def test_the_flow_of_an_adopted_model_has_the_likelihood_of_its_law():
    model = orn.adopt(CASES["flow"][0], convention="flow", shape=(2,))
    law = orn.ExactGaussian(MEAN, VARIANCE, orn.Linear())
    x = law.draw(4, 0)
    torch.testing.assert_close(orn.ode_log_prob(model, x, tolerance=1e-5, t=0.01), orn.ode_log_prob(
        law, x, tolerance=1e-5, t=0.01), atol=1e-3, rtol=0)


class Labelled(torch.nn.Module):
    """What a network was told, as its answer."""

    def forward(self, x, sigma, labels=None, class_cond=None):
        told = class_cond.to(x) if labels is None else labels @ torch.arange(1.0, 4.0).to(labels)
        return told.reshape(-1, *[1] * (x.ndim - 1)).expand_as(x)


def test_classes_are_told_in_the_way_of_the_library():
    """Numbers by a keyword, with the library's own number for none; or one-hot rows, zeros for none."""
    z, told = torch.zeros(3, 2), torch.tensor([0, 2, -1])
    numbers = orn.adopt(Labelled(), convention="k-diffusion", shape=(2,), classes=3, null=3)
    assert numbers(z, 0.5, told).x[:, 0].tolist() == pytest.approx([0, 2, 3])
    rows = orn.adopt(Labelled(), convention="edm", shape=(2,), classes=["a", "b", "c"])
    assert rows(z, 0.5, told).x[:, 0].tolist() == pytest.approx([1, 3, 0])
    assert rows(z, 0.5, "b").x[0, 0] == pytest.approx(2)
    always = orn.adopt(Labelled(), convention="k-diffusion", shape=(2,), classes=3)
    with pytest.raises(ValueError, match="never trained without a class: give one from 0 to 2"):
        always(z, 0.5)


def digits_model(data, scale=1.0):
    """The best linear denoiser of the digits, times a scale, as a network that is told sigma."""
    x = data.split()[0].batch(range(1000))[0].double().flatten(1) * scale
    mean, (variance, basis) = x.mean(0), torch.linalg.eigh(torch.cov(x.T))

    def denoised(z, sigma):
        gain = variance / (variance + sigma[:, None].double() ** 2)
        return (mean + (z.flatten(1).double() - mean) @ basis * gain @ basis.T).reshape(z.shape).to(z)

    return denoised


@pytest.mark.parametrize(("scale", "said", "remedy"), [
    (0.5, None, r"give range=\(-0.5, 0.5\)"), (1.0, (-0.5, 0.5), r"give range=\(-1, 1\)")])
def test_a_range_that_is_wrong_by_a_factor_of_2_is_noticed(scale, said, remedy):
    data = orn.load_data("digits")
    network = digits_model(data, scale)
    with pytest.warns(RuntimeWarning, match=f"the data have another scale than the model.*{remedy}"):
        orn.adopt(network, convention="k-diffusion", data=data, range=said)


def test_a_schedule_that_is_not_the_models_is_noticed_and_a_right_one_is_not(recwarn):
    data = orn.load_data("digits")
    network = digits_model(data)
    model = orn.adopt(network, convention="k-diffusion", data=data)
    assert not [one for one in recwarn if "adopt" in str(one.filename) or "held-out" in str(one.message)]
    assert (model.data.classes, model.data.bins) == ((), 17)
    with pytest.warns(RuntimeWarning, match="time is not that of the model.*if it is told (more|less) noise"):
        orn.adopt(lambda x, sigma: network(x, 4 * sigma), convention="k-diffusion", data=data)


def same(x, time):  # noqa: ARG001
    return x


def test_values_in_0_to_1_come_back_as_the_datas_own():
    """Samples of a model of values from 0 to 1 decode to 0..255, and encode back to themselves."""
    model = orn.adopt(same, convention="k-diffusion", shape=(3, 4, 4), range=(0, 1))
    x = torch.tensor([0.0, 0.2, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    decoded = model.data.decode(x)
    assert decoded[0, :, 0, 0].tolist() == [0, 51, 255]
    torch.testing.assert_close(model.data.encode(decoded), x.contiguous(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("options", "message"), [
    ({}, "convention is missing.*'x', 'eps'"), ({"convention": "epsilon"}, "convention 'epsilon' is unknown"),
    ({"convention": "x"}, "schedule is missing"), ({"convention": "flow", "shape": None}, "shape is missing"),
    ({"convention": "x", "schedule": orn.Cosine(), "time": "index"}, "time is 'index', but schedule is Cosine"),
    ({"convention": "flow", "time": "index"}, "convention 'flow' defines its own time"),
    ({"convention": "k-diffusion", "schedule": orn.Cosine()}, "ends without signal"),
    ({"convention": "score_sde", "schedule": orn.Cosine()}, "VP SDE is orn.Chain.linear"),
    ({"convention": "eps", "schedule": "cosine"}, "predicts is 'eps'"),
    ({"convention": "flow", "null": 3}, "null is 3"),
    ({"convention": "flow", "inputs": {"x": "z"}}, "inputs and output are for .onnx files"),
    ({"convention": "flow", "range": (1, 0)}, "range is"), ({"convention": "flow", "schedule": 3}, "schedule is a int"),
])
def test_what_is_missing_or_contradicts_is_said(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        orn.adopt(same, **{"shape": (1, 4, 4), **options})


def test_a_network_that_answers_something_else_is_refused():
    for network, message in ((lambda x, time: x[:, :len(time)], "answers .* with shape"),
                             (lambda x, time: x / (0 * time), "not finite"), (lambda x, time: (x, time), "a tuple"),
                             (lambda x: x, "cannot be called as convention 'flow'")):
        with pytest.raises(ValueError, match=message):
            orn.adopt(network, convention="flow", shape=(2, 4, 4))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_graph_is_a_denoiser_that_travels_in_its_file(tmp_path, rank):
    """Its own answer at the times that it is told, in any batch; saved and loaded it draws the same samples."""
    pytest.importorskip("onnxruntime")
    model = orn.adopt(graph(tmp_path / "m.onnx", rank), convention="x", schedule=orn.Cosine(),
                      inputs={"x": "sample", "time": "timestep"})
    z = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.1, 0.9, 7, dtype=torch.float64)
    torch.testing.assert_close(model(z, t).x, 0.5 * z + t.float()[:, None, None], atol=1e-6, rtol=0)
    orn.save(model, tmp_path / "m.safetensors")
    again = orn.load(tmp_path / "m.safetensors")
    assert torch.equal(orn.sample(model, 3, nfe=3), orn.sample(again, 3, nfe=3))
    assert (again.origin, again.data) == (model.origin, model.data)
    with pytest.raises(RuntimeError, match="an ONNX model has no derivatives"):
        orn.ode_log_prob(again, z[:1])
    if rank:
        assert "learned by regression" in orn.tune(again, 2, starts=16).errors


@pytest.mark.parametrize(("inputs", "output", "message"), [
    ({"x": "smaple"}, None, "input x 'smaple' is unknown; did you mean 'sample'"), (None, "z", "output 'z' is unknown"),
    ({"y": "sample"}, None, "input 'y' is unknown"),
    ({"x": "sample", "time": "sample"}, None, "as in inputs={'x': 'sample', 'time': 'timestep'}"),
    ({"x": "timestep", "time": "sample"}, None, "has samples of shape \\(\\)")])
def test_names_of_a_graph_are_shown_where_others_are_given(tmp_path, inputs, output, message):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match=message):
        orn.adopt(graph(tmp_path / "m.onnx"), convention="x", schedule="cosine", shape=(2, 3), inputs=inputs,
                  output=output)


def test_a_graph_of_one_batch_size_or_that_is_none_is_refused_in_one_line(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "none.onnx").write_bytes(b"evil")
    for path, message in ((graph(tmp_path / "m.onnx", batch=4), "cannot run the graph on 1 samples"),
                          (tmp_path / "none.onnx", "none.onnx: onnxruntime cannot run the graph"),
                          (tmp_path / "gone.onnx", "gone.onnx does not exist")):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            orn.adopt(path, convention="x", schedule="cosine", inputs={"x": "sample", "time": "timestep"}
                      if path.stem == "m" else None, shape=(2, 3))
        assert "\n" not in str(caught.value)


def test_a_module_of_ones_own_is_loaded_with_the_module_and_a_function_is_not_saved(tmp_path):
    with pytest.raises(TypeError, match="make it a torch"):
        orn.save(orn.adopt(same, convention="flow", shape=(2,)), tmp_path / "f.safetensors")
    model = orn.adopt(Labelled(), convention="edm", shape=(2,), classes=3)
    orn.save(model, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=re.escape("load(path, network=...)")):
        orn.load(tmp_path / "m.safetensors")
    again = orn.load(tmp_path / "m.safetensors", network=Labelled())
    z = torch.ones(2, 2)
    assert torch.equal(again(z, 0.5, 1).v, model(z, 0.5, 1).v)
    assert np.array_equal(again.data.as_dict()["classes"], ["0", "1", "2"])
