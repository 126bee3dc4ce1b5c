"""The samplers of diffusers and azula, driven by an exact denoiser at the very noise level that each is at."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import azula.denoise
import azula.noise
import azula.sample
import diffusers
import torch
from torch import Tensor

import ornstein as orn

__all__ = ["peers", "schedulers"]

# (denoiser, z at t = 1, calls) -> samples, or None where it cannot
Walk = Callable[[orn.Denoiser, Tensor, int], Tensor | None]

KARRAS, EXPONENTIAL, LU = {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_lu_lambdas": True}
TRAILING = {"timestep_spacing": "trailing"}
GRIDS = {"linspace": {}, "trailing": TRAILING, "karras": KARRAS, "exponential": EXPONENTIAL}


def schedulers() -> Iterator[tuple[str, Callable[..., object]]]:
    """(name, maker) of every scheduler of diffusers with its settings; a maker is called with trained_betas=..."""
    for grid in ("linspace", "trailing"):
        yield f"DDIM {grid}", functools.partial(diffusers.DDIMScheduler, clip_sample=False, timestep_spacing=grid)
        yield f"PNDM {grid}", functools.partial(diffusers.PNDMScheduler, skip_prk_steps=True, set_alpha_to_one=True,
                                                timestep_spacing=grid)
    for grid, options in {**GRIDS, "lambdas": LU}.items():
        for order in (2, 3):
            for kind in ("dpmsolver++", "dpmsolver"):
                for last in ("zero", "sigma_min"):
                    if (kind, last) == ("dpmsolver", "zero"):
                        continue  # refused by diffusers
                    for lower in (True, False):
                        yield (f"{kind} {order}M {grid} {last}{'' if lower else ' full'}", functools.partial(
                            diffusers.DPMSolverMultistepScheduler, solver_order=order, algorithm_type=kind,
                            final_sigmas_type=last, lower_order_final=lower, **options))
    for grid, options in GRIDS.items():
        for order in (2, 3):
            for guess in (True, False):
                for last in ("zero", "sigma_min"):
                    yield (f"UniPC {order} {'x' if guess else 'eps'} {grid} {last}", functools.partial(
                        diffusers.UniPCMultistepScheduler, solver_order=order, predict_x0=guess,
                        final_sigmas_type=last, **options))
            yield f"DEIS {order} {grid}", functools.partial(diffusers.DEISMultistepScheduler, solver_order=order,
                                                            **options)


def peers(betas: Tensor | None) -> dict[str, Walk]:
    """Every peer by name; those of diffusers need the betas of a chain, those of azula take any schedule."""
    found: dict[str, Walk] = {}
    if betas is not None:
        for name, make in schedulers():
            found[f"diffusers {name}"] = functools.partial(_scheduled, make, betas)
    kinds = [("DDIM", azula.sample.DDIMSampler, {}, 1), ("Heun", azula.sample.HeunSampler, {}, 2)]
    for order in (2, 3):
        kinds += [(f"{short} {order}", getattr(azula.sample, f"{short}Sampler"), {"order": order}, 1)
                  for short in ("zAB", "vAB", "zEAB", "xEAB", "REAB")]
    for warp in (1.0, 1.5, 2.0, 3.0):
        for stop in (1e-2, 1e-3):
            for short, kind, options, calls in kinds:
                name = f"azula {short} to noise {stop:g}" + (f", times t^{warp:g}" if warp != 1 else "")
                found[name] = functools.partial(_azula, kind, options, calls, warp, stop)
    return found


def _scheduled(make: Callable[..., object], betas: Tensor, denoiser: orn.Denoiser, z: Tensor,
               calls: int) -> Tensor | None:
    walker = make(trained_betas=betas.numpy(), num_train_timesteps=len(betas))
    # PNDM calls once more than its number of steps.
    walker.set_timesteps(calls - 1 if isinstance(walker, diffusers.PNDMScheduler) else calls)
    if len(walker.timesteps) > calls:
        return None
    for number, step in enumerate(walker.timesteps):
        if isinstance(walker, diffusers.DDIMScheduler | diffusers.PNDMScheduler):
            time = torch.tensor((float(step) + 1) / len(betas), dtype=torch.float64)
        else:
            time = denoiser.schedule.time(-2 * walker.sigmas[number].double().log())
        z = walker.step(denoiser(z, time).eps, step, z).prev_sample.double()
    return z


class _Path(azula.noise.Schedule):
    def __init__(self, schedule: orn.Schedule) -> None:
        self.schedule = schedule

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        level = self.schedule.level(t)
        return level.signal.clamp(min=1e-8), level.noise


class _Exact(azula.denoise.Denoiser):
    def __init__(self, denoiser: orn.Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, _Path(denoiser.schedule)

    def forward(self, x_t: Tensor, t: Tensor, **_: object) -> azula.denoise.DiracPosterior:
        return azula.denoise.DiracPosterior(self.denoiser(x_t, t.clamp(0, 1)).x)


def _azula(kind: type, options: dict[str, int], each: int, warp: float, stop: float, denoiser: orn.Denoiser,
           z: Tensor, calls: int) -> Tensor | None:
    steps = calls // each
    end = float(denoiser.schedule.time(-2 * math.log(stop)))

    class Warped(kind):  # times are a property of their samplers
        @property
        def timesteps(self) -> Tensor:
            return end + (1 - end) * torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** warp

    walker = Warped(_Exact(denoiser), steps=steps, silent=True, **options)
    x = walker(z)
    return x / denoiser.schedule.level(torch.tensor(end, dtype=torch.float64)).signal
