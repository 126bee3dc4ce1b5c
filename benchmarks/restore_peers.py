"""azula's methods for posterior samples, for `restore.py`: each with several settings, steps so that calls are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azula.denoise
import azula.guidance.diffpir
import azula.guidance.dps
import azula.guidance.jfps
import azula.guidance.mmps
import azula.guidance.pgdm
import azula.guidance.repaint
import azula.guidance.tds
import azula.guidance.tmpd
import azula.noise
import azula.sample
import torch
from azula.linalg.covariance import FullCovariance, IsotropicCovariance
from torch import Tensor

import ornstein as orn

if TYPE_CHECKING:
    from restore import Cell, Method

__all__ = ["peers"]

LEAST = 0.01  # noise of one that is 0, for methods that divide by it


class Theirs(azula.denoise.Denoiser):
    """Our exact denoiser in azula's form."""

    def __init__(self, data: orn.Denoiser) -> None:
        super().__init__()
        self.data, self.schedule = data, azula.noise.CosineSchedule()

    def forward(self, x_t: Tensor, t: Tensor) -> azula.denoise.DiracPosterior:
        signal, noise = self.schedule(t)
        time = self.data.schedule.time(2 * torch.log(signal / noise))
        level = self.data.schedule.level(time)
        return azula.denoise.DiracPosterior(self.data(x_t * (level.signal / signal), time).x)


def peers() -> dict[str, Method]:
    """Every method by its name and setting."""
    made: dict[str, Method] = {}
    for eta in (0.0, 1.0):
        for iterations in (1, 2, 4):
            made[f"MMPS {iterations}, eta {eta:g}"] = _wrapped("MMPS", 2 + iterations, eta, iterations=iterations)
            made[f"JFPS {iterations}, eta {eta:g}"] = _wrapped("JFPS", 1, eta, iterations=iterations)
        made[f"TMPD, eta {eta:g}"] = _wrapped("TMPD", 3, eta)
        made[f"DiffPIR, eta {eta:g}"] = _wrapped("DiffPIR", 1, eta)
        made[f"PiGDM, eta {eta:g}"] = _sampled("PiGDM", 2, eta=eta)
    for zeta in (0.1, 0.3, 1.0):
        made[f"DPS {zeta:g}"] = _sampled("DPS", 2, zeta=zeta)
    for times in (1, 3):
        made[f"RePaint {times}"] = _sampled("RePaint", times, iterations=times)
    made["TDS"] = _sampled("TDS", 2)
    return made


def _wrapped(kind: str, cost: int, eta: float, iterations: int = 1) -> Method:
    """A method that is a denoiser given y, walked by DDIM."""

    def method(cell: Cell, y: Tensor, many: int, calls: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        denoiser, rows = Theirs(cell.data), y.repeat_interleave(many, 0)
        noise, forward = max(cell.noise, LEAST), lambda x: x @ cell.matrix.T
        if kind == "MMPS":
            given = azula.guidance.mmps.MMPSDenoiser(denoiser, rows, forward, IsotropicCovariance(noise**2),
                                                     iterations=iterations)
        elif kind == "JFPS":
            weight, mean, covariance = cell.data.components()
            apart = mean - weight @ mean
            whole = (weight[:, None, None] * covariance).sum(0) + apart.T @ (weight[:, None] * apart)
            power, basis = torch.linalg.eigh(whole)
            given = azula.guidance.jfps.JFPSDenoiser(denoiser, rows, forward, IsotropicCovariance(noise**2),
                                                     FullCovariance(basis, power), iterations=iterations)
        elif kind == "TMPD":
            given = azula.guidance.tmpd.TMPDenoiser(denoiser, rows, forward, noise**2)
        else:
            given = azula.guidance.diffpir.DiffPIRDenoiser(denoiser, rows, forward, noise**2)
        sampler = azula.sample.DDIMSampler(given, eta=eta, steps=max(1, calls // cost), silent=True)
        return sampler(sampler.init((len(rows), *cell.data.shape))).unflatten(0, (-1, many))

    return method


def _sampled(kind: str, cost: int, **options: float) -> Method:
    """A method that is a sampler."""

    def method(cell: Cell, y: Tensor, many: int, calls: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        denoiser, a = Theirs(cell.data), cell.matrix
        told = {"steps": max(1, calls // cost), "silent": True}

        def forward(x: Tensor) -> Tensor:
            return x @ a.T

        if kind == "TDS":  # particles of one observation
            drawn = []
            for one in y:
                def twist(x: Tensor, ratio: Tensor, one: Tensor = one) -> Tensor:
                    variance = cell.noise**2 + ratio**2 / (1 + ratio**2)
                    return -0.5 * ((one - forward(x)).square() / variance).sum(1)
                sampler = azula.guidance.tds.TDSSampler(denoiser, twist, **told)
                drawn.append(sampler(sampler.init((many, *cell.data.shape))))
            return torch.stack(drawn)
        rows = y.repeat_interleave(many, 0)
        if kind == "PiGDM":
            inverse = torch.linalg.pinv(a, rtol=1e-2)
            sampler = azula.guidance.pgdm.PGDMSampler(denoiser, rows, forward, lambda v: v @ inverse.T, **options,
                                                      **told)
        elif kind == "DPS":
            sampler = azula.guidance.dps.DPSSampler(denoiser, rows, forward, **options, **told)
        else:  # RePaint knows masks alone
            known = (a != 0).any(0) if (a != 0).sum() == len(a) else torch.zeros(a.shape[1], dtype=torch.bool)
            sampler = azula.guidance.repaint.RePaintSampler(denoiser, rows @ a * known, known, **options, **told)
        return sampler(sampler.init((len(rows), *cell.data.shape))).unflatten(0, (-1, many))

    return method
