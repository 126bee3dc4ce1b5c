"""Bounds and flows on data whose log p is known: gaps by steps, errors of the solver, and what wrong answers cost."""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch

import ornstein as orn

SCHEDULES = {"cosine": orn.Cosine(), "linear": orn.Linear(), "chain": orn.Chain.linear(), "exploding": orn.Exploding()}
STEPS = (8, 16, 32, 64, 128, 256)


class Shifted(orn.Denoiser):
    """A denoiser whose v is wrong by a constant, so that eps-hat is by signal / radius of it."""

    def __init__(self, inner: orn.Denoiser, shift: float) -> None:
        super().__init__(inner.schedule, inner.shape)
        self.inner, self.shift = inner, shift

    def forward(self, z: torch.Tensor, t: torch.Tensor, condition: torch.Tensor | None = None) -> orn.Estimate:
        return orn.Estimate(z, self.level(z, t), self.inner(z, t, condition).v - self.shift)


def mixture(schedule: orn.Schedule, dim: int) -> orn.ExactMixture:
    """Six components of deviation 0.2 to 0.6 around standard normal means."""
    rng = np.random.default_rng(7)
    return orn.ExactMixture(torch.from_numpy(rng.random(6) + 0.2), torch.from_numpy(rng.standard_normal((6, dim))),
                            torch.from_numpy(rng.uniform(0.2, 0.6, 6) ** 2), schedule)


def told(values: torch.Tensor) -> str:
    """Mean and standard error."""
    return f"{float(values.mean()):.4g}±{float(values.std()) / math.sqrt(len(values)):.1g}"


def bounds(rows: int) -> None:
    """Log p less the bound, in nats, by steps even in log SNR, and in continuous time."""
    print(f"log p - bound, nats, mean of {rows}; T steps even in log SNR\n")
    print("| schedule | D |", " | ".join(f"T = {steps}" for steps in STEPS), "| continuous | prior |")
    print("| --- " * (len(STEPS) + 4) + "|")
    for name, schedule in SCHEDULES.items():
        for dim in (1, 2, 8, 64):
            model = mixture(schedule, dim)
            x = model.draw(rows)
            true = model.log_prob(x)
            found = [orn.elbo(model, x, orn.bound_times(schedule, steps)) for steps in STEPS]
            through = orn.continuous_elbo(model, x)
            print(f"| {name} | {dim} |", " | ".join(told(true - one.log_prob) for one in found),
                  f"| {told(true - through.log_prob)} | {float(found[0].prior.mean()):.1g} |", flush=True)


def flows() -> None:
    """Largest error of the flow's log p, its prior gap, and Hutchinson's mean error over its own standard error."""
    print("\n| schedule | D | largest error, nats | with a normal base | calls | s | probes: error / its error |")
    print("| --- " * 7 + "|")
    for name, schedule in SCHEDULES.items():
        for dim in (1, 2, 8, 64):
            model = mixture(schedule, dim)
            x = model.draw(16)
            true, started = model.log_prob(x), time.perf_counter()
            own = orn.ode_likelihood(model, x, tolerance=1e-6, base=lambda z, model=model: model.log_prob_at(z, 1.0))
            seconds = time.perf_counter() - started
            normal = orn.ode_log_prob(model, x, tolerance=1e-6)
            many = model.draw(64)
            random = orn.ode_likelihood(model, many, "hutchinson", probes=16, tolerance=1e-4)
            off = random.log_prob - model.log_prob(many)
            share = float(off.mean()) / float(random.error.square().mean().sqrt() / 8) if dim > 1 else 0.0
            print(f"| {name} | {dim} | {float((own.log_prob - true).abs().max()):.1e} | "
                  f"{float((normal - true).abs().max()):.1e} | {float(own.calls.double().mean()):.0f} | "
                  f"{seconds:.1f} | {share:.2f} |", flush=True)


def wrong(rows: int) -> None:
    """What a wrong field costs, beside the integral of D shift^2 signal^2 / 2 over log SNR."""
    log_snr = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    print("\n| D | shift of v | measured, nats | theory |\n| --- | --- | --- | --- |")
    for dim in (2, 8, 64):
        model = mixture(orn.Cosine(), dim)
        x = model.draw(rows)
        for shift in (0.05, 0.2):
            right, bad = (orn.continuous_elbo(one, x, proposal="uniform").diffusion
                          for one in (model, Shifted(model, shift)))
            theory = float(torch.trapezoid(0.5 * dim * shift**2 * torch.sigmoid(log_snr), log_snr))
            print(f"| {dim} | {shift} | {told(bad - right)} | {theory:.4g} |", flush=True)


def main() -> None:
    """Print all three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000, help="samples that a mean is over")
    asked = parser.parse_args()
    bounds(asked.rows)
    flows()
    wrong(asked.rows)


if __name__ == "__main__":
    main()
