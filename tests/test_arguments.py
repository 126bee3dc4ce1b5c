"""Numbers that a caller gives to a public function: what they are not is refused by the argument's name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import ornstein as orn

NO_WHOLE = [math.nan, math.inf, -math.inf, 6.7, 5.0, True, "3", [3], {}, -1, np.bool_(True), torch.tensor(True),
            torch.tensor([1, 2]), np.float32(3), 10**400]
NO_NUMBER = [math.nan, math.inf, -math.inf, True, "0.1", [0.1], {}, np.bool_(True), torch.tensor(True),
             torch.tensor([0.1, 0.2]), 10**400]
X = torch.zeros(2, 2, dtype=torch.float64)
EXACT = orn.ExactGaussian(torch.zeros(2), torch.ones(2), orn.Cosine())
MIXTURE = orn.ExactMixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1), orn.Cosine())
SET = orn.ExactDataset(X, orn.Cosine())

WHOLE = {
    "count": [lambda v: orn.sample(EXACT, v), lambda v: orn.generate(EXACT, v),
              lambda v: orn.evaluate(EXACT, "moons", count=v), lambda v: orn.vary(EXACT, X, 0.5, v),
              lambda v: orn.inpaint(EXACT, X, None, v), lambda v: orn.restore(EXACT, X[:, :1], "mask=0.5", 0.1, v),
              lambda v: orn.interpolate(EXACT, X, X, v)],
    "nfe": [lambda v: orn.sample(EXACT, nfe=v), lambda v: orn.generate(EXACT, nfe=v, sampler="heun"),
            lambda v: orn.tune(EXACT, v), lambda v: orn.evaluate(EXACT, "moons", nfe=v),
            lambda v: orn.invert(EXACT, X, nfe=v), lambda v: orn.vary(EXACT, X, 0.5, nfe=v)],
    "steps": [lambda v: orn.sample(EXACT, steps=v), lambda v: orn.generate(EXACT, steps=v),
              lambda v: orn.grid(orn.Cosine(), v), lambda v: orn.bound_times(orn.Cosine(), v)],
    "batch": [lambda v: orn.sample(EXACT, batch=v)],
    "seed": [lambda v: orn.sample(EXACT, seed=v), lambda v: EXACT.draw(2, v), lambda v: MIXTURE.draw(2, v),
             lambda v: SET.draw(2, v), lambda v: orn.elbo(EXACT, X, seed=v), lambda v: orn.dequantise(X, 3, v),
             lambda v: orn.continuous_elbo(EXACT, X, seed=v), lambda v: orn.Settings(seed=v),
             lambda v: list(orn.Encoder(orn.Cosine()).walk(X, [0.0, 0.5], seed=v))],
    "n": [lambda v: EXACT.draw(v), lambda v: MIXTURE.draw(v), lambda v: SET.draw(v)],
    "draws": [lambda v: orn.elbo(EXACT, X, draws=v), lambda v: orn.continuous_elbo(EXACT, X, draws=v),
              lambda v: orn.level_losses(EXACT, X, [0.0], draws=v),
              lambda v: orn.optimal_variance(EXACT, X, [0.0, 1.0], draws=v)],
    "levels": [lambda v: orn.elbo(EXACT, X, levels=v), lambda v: orn.dequantise(X, v)],
    "starts": [lambda v: orn.tune(EXACT, 4, starts=v)],
    "probes": [lambda v: orn.ode_log_prob(EXACT, X, probes=v)],
    "T": [lambda v: orn.Chain.linear(v)],
    "images": [lambda v: orn.Settings(images=v), lambda v: orn.Trainer("moons", images=v)],
    "size": [lambda v: orn.Settings(size=v), lambda v: orn.load_data("digits", size=v)],
}
NUMBERS = {
    "tolerance": [lambda v: orn.sample(EXACT, tolerance=v), lambda v: orn.ode_log_prob(EXACT, X, tolerance=v)],
    "guidance": [lambda v: orn.sample(MIXTURE, guidance=v, condition=0)],
    "strength": [lambda v: orn.vary(EXACT, X, v)],
    "noise": [lambda v: orn.restore(EXACT, X[:, :1], "mask=0.5", v)],
    "scale": [lambda v: orn.Guided(MIXTURE, v)],
    "damping": [lambda v: orn.Damped(EXACT, v)],
    "sigma_min": [lambda v: orn.Exploding(v, 2.0)],
    "first": [lambda v: orn.Chain.linear(first=v)],
    "t": [lambda v: orn.Encoder(orn.Cosine()).kernel(X[:1], v), lambda v: EXACT(X[:1], v)],
    "minutes": [lambda v: orn.Settings(minutes=v), lambda v: orn.Trainer("moons", minutes=v)],
}


@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in WHOLE.items() for call in calls])
def test_what_is_no_whole_number_is_refused_by_name(name, call):
    for value in NO_WHOLE:
        with pytest.raises((TypeError, ValueError), match=rf"^{name} (is|\[)"):
            call(value)


@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in NUMBERS.items() for call in calls])
def test_what_is_no_number_is_refused_by_name(name, call):
    for value in NO_NUMBER:
        if (name, type(value)) in (("t", list), ("minutes", str)):  # a time for each row; text as YAML has it
            continue
        with pytest.raises((TypeError, ValueError), match=rf"^{name} (is|has)|^a time or level has shape"):
            call(value)


def test_whole_numbers_of_numpy_and_torch_are_whole_numbers():
    drawn = orn.sample(EXACT, 2, nfe=3, seed=5)
    for kind in (np.int64, np.uint8, torch.tensor):
        assert torch.equal(orn.sample(EXACT, kind(2), nfe=kind(3), seed=kind(5)), drawn)


class Sick(orn.Denoiser):
    """A model whose answers are no numbers where x is on the right."""

    def forward(self, z, t, condition=None):
        x = torch.where(z > 0, math.nan, 0.0)
        return orn.Estimate.from_x(x, z, self.level(z, t))


@pytest.mark.parametrize("words", [{"nfe": 4}, {"steps": 2, "sampler": "heun"}, {"tolerance": 1e-2}])
def test_samples_that_are_not_finite_are_refused(words):
    with pytest.raises(RuntimeError, match="not finite"):
        orn.sample(Sick(orn.Cosine(), (2,)), 8, **words)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_latents_and_data_that_are_not_finite_are_refused(value):
    z = torch.zeros(3, 2)
    z[1, 0] = value
    for call in (lambda: orn.sample(EXACT, z=z), lambda: orn.generate(EXACT, z=z),
                 lambda: orn.sample(EXACT, z=z, tolerance=0.1), lambda: orn.elbo(EXACT, z),
                 lambda: orn.ode_log_prob(EXACT, z)):
        with pytest.raises(ValueError, match="holds 1 values that are not finite"):
            call()
    with pytest.raises(TypeError, match="z is a ndarray; it must be a tensor"):
        orn.sample(EXACT, z=np.zeros((3, 2)))
