"""U-Nets of diffusers and azula as denoisers of ours, each trained as its own example does and with our engine."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein import Chain, Denoiser, Estimate
from ornstein.training.average import exponent, update

__all__ = ["FORMS", "PEERS", "Azula", "Diffusers", "train"]

FORMS = ("as shipped", "our engine")
WARMUP = 0.05  # share of the budget over which the learning rate of the second form rises
RATE, BATCH = 2e-3, 64  # of the second form: the best of 1e-3, 2e-3 and 4e-3 on the digits
STEPS = 1000  # of diffusers' chain


class _Peer(Denoiser):
    """A network of another library, and what its example does in one step."""

    batch: int  # of its example

    def __init__(self, shape: tuple[int, ...], network: nn.Module) -> None:
        super().__init__(Chain.linear(STEPS), shape)
        self.network, self.x_range = network, (-1.0, 1.0)

    def answer(self, z: Tensor, t: Tensor, condition: Tensor) -> Estimate:
        """The network's estimate at one time a row."""
        raise NotImplementedError

    def forward(self, z: Tensor, t: Tensor | float, condition: Tensor | int | None = None) -> Estimate:
        assert condition is not None
        labels = torch.as_tensor(condition).expand(len(z))
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(z))
        estimate = self.answer(z, times, labels)
        return Estimate.from_x(estimate.x.clamp(*self.x_range), z, estimate.level)


class Diffusers(_Peer):
    """`UNet2DModel` on the 1,000 linear betas with the loss on eps, as in its unconditional training example."""

    batch = 16

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        from diffusers import UNet2DModel

        small = shape[1] <= 8
        widths = (32, 64) if small else (32, 64, 64)
        plain = len(widths) - 1
        super().__init__(shape, UNet2DModel(
            sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], num_class_embeds=classes,
            layers_per_block=1, norm_num_groups=8 if small else 16, block_out_channels=widths,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain))
        self.alpha = self.schedule.alpha.float()

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error of eps at random steps."""
        eps, index = torch.randn_like(x), torch.randint(STEPS, (len(x),))
        alpha = self.alpha[index + 1].reshape(-1, 1, 1, 1)
        return F.mse_loss(self.network(alpha.sqrt() * x + (1 - alpha).sqrt() * eps, index, labels).sample.float(), eps)

    def answer(self, z: Tensor, t: Tensor, condition: Tensor) -> Estimate:
        index = (t * STEPS - 1).clamp(min=0).float()
        return Estimate.from_eps(self.network(z, index, condition).sample.float(), z, self.schedule.level(t).fit(z))

    @torch.no_grad()
    def own_samples(self, labels: Tensor, calls: int) -> Tensor:
        """By DPM-Solver++ on trailing steps."""
        from diffusers import DPMSolverMultistepScheduler

        scheduler = DPMSolverMultistepScheduler(num_train_timesteps=STEPS, beta_schedule="linear",
                                                prediction_type="epsilon", timestep_spacing="trailing")
        scheduler.set_timesteps(calls)
        z = torch.randn(len(labels), *self.shape)
        for t in scheduler.timesteps:
            z = scheduler.step(self.network(z, t, labels).sample, t, z).prev_sample
        return z.clamp(*self.x_range)


class _Told(nn.Module):
    """azula's U-Net, told time and label by one vector as in its CIFAR-10 tutorial."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        from azula.nn.layers import SineEncoding
        from azula.nn.unet import UNet

        widths, blocks = ([32, 64], [2, 2]) if shape[1] <= 8 else ([32, 64, 96], [1, 1, 2])
        self.unet = UNet(shape[0], shape[0], hid_channels=widths, hid_blocks=blocks, mod_features=64)
        self.time, self.label = SineEncoding(64), nn.Embedding(classes, 64)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return self.unet(x, self.time(t) + self.label(label))


class Azula(_Peer):
    """azula's U-Net and `KarrasDenoiser` on its variance-preserving schedule."""

    batch = 256

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        from azula.denoise import KarrasDenoiser
        from azula.noise import VPSchedule

        super().__init__(shape, KarrasDenoiser(_Told(shape, classes), VPSchedule()))

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Its denoiser's own loss at times even in [0, 1]."""
        return self.network.loss(x, torch.rand(len(x)), label=labels).mean()

    def answer(self, z: Tensor, t: Tensor, condition: Tensor) -> Estimate:
        schedule, snr = self.network.schedule, torch.exp(self.schedule.log_snr(t).clamp(max=13.8))
        signal = (snr * (1 + schedule.sigma_min**2) / (1 + snr)).sqrt()
        time = (torch.log(signal) / math.log(schedule.alpha_min)).clamp(0, 1).sqrt()
        level = self.schedule.level(t).fit(z)
        scaled = z * (signal.to(z).reshape(-1, 1, 1, 1) / level.signal)
        return Estimate.from_x(self.network(scaled, time.to(z), label=condition).mean, z, level)

    @torch.no_grad()
    def own_samples(self, labels: Tensor, calls: int) -> Tensor:
        """By its exponential Adams rule of order 2."""
        from azula.sample import zEABSampler

        sampler = zEABSampler(self.network, steps=calls, silent=True)
        return sampler(sampler.init((len(labels), *self.shape)), label=labels).clamp(*self.x_range)


PEERS: dict[str, type[_Peer]] = {"diffusers": Diffusers, "azula": Azula}


def train(peer: _Peer, form: str, x: Tensor, labels: Tensor, flip: bool, seconds: float | None = None,
          images: int | None = None) -> int:
    """Train a peer in place for some seconds or pictures and leave its averaged weights in it; pictures seen."""
    begin = time.perf_counter()
    shipped = form == "as shipped"
    network, batch = peer.network, peer.batch if shipped else BATCH
    if not shipped:
        network.to(memory_format=torch.channels_last)
    weights = list(network.parameters())
    optimizer, settle = (_shipped(peer, weights) if shipped else _engine(weights))
    mean = copy.deepcopy(weights) if settle is None else None
    gamma, steps, order = exponent(0.05), 0, torch.empty(0, dtype=torch.long)
    while (share := steps * batch / images if images else (time.perf_counter() - begin) / (seconds or 1)) < 1:
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(len(x))])
        rows, order = order[:batch], order[batch:]
        part = x[rows]
        if flip:
            part = torch.where((torch.rand(len(part)) < 0.5)[:, None, None, None], part.flip(3), part)
        for group in optimizer.param_groups:
            group["lr"] = _rate(peer, shipped, share, steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=not shipped):
            loss = peer.loss(part if shipped else part.contiguous(memory_format=torch.channels_last), labels[rows])
        loss.backward()
        if shipped and isinstance(peer, Diffusers):
            nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        if mean is not None:
            update(mean, weights, steps, gamma)
        else:
            settle(None)
    if mean is None:
        settle(network)
    else:
        with torch.no_grad():
            for value, average in zip(weights, mean, strict=True):
                value.copy_(average)
    network.eval()
    return steps * batch


def _rate(peer: _Peer, shipped: bool, share: float, step: int) -> float:
    if not shipped:
        return RATE * min(1.0, share / WARMUP) * (1 - share)
    if isinstance(peer, Azula):
        return 1e-4
    return 1e-4 * min(1.0, (step + 1) / 500) * 0.5 * (1 + math.cos(math.pi * share))


def _engine(weights: list[nn.Parameter]) -> tuple[torch.optim.Optimizer, None]:
    return torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True), None


def _shipped(peer: _Peer, weights: list[nn.Parameter]) -> tuple[torch.optim.Optimizer, Callable]:
    """The example's optimiser, and its average: called with None after a step, with the network at the end."""
    if isinstance(peer, Diffusers):
        from diffusers.training_utils import EMAModel

        mean = EMAModel(weights, decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        optimizer = torch.optim.AdamW(weights, lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        return optimizer, lambda network: mean.step(weights) if network is None else mean.copy_to(weights)
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    average = AveragedModel(peer.network, multi_avg_fn=get_ema_multi_avg_fn(0.999))

    def settle(network: nn.Module | None) -> None:
        if network is None:
            average.update_parameters(peer.network)
        else:
            network.load_state_dict(average.module.state_dict())

    return torch.optim.Adam(weights, lr=1e-4), settle
