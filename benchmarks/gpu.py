"""One GPU: training steps a second beside a U-Net of diffusers with as many weights, then a model in some minutes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from ceiling import ceiling, flops
from quality import LEVELS, of_cifar
from torch import Tensor, nn

import ornstein as orn
from ornstein.figures.pictures import show
from ornstein.networks import build, choose_network
from ornstein.training.events import Event, Progress, Started

SHAPE, CLASSES, BATCH = (3, 32, 32), 10, 256


def ours() -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
    """The network that "auto" chooses on a GPU, and a call of it."""
    name, options = choose_network(SHAPE, "auto", effort=2)
    return build(name, {"shape": list(SHAPE), "classes": CLASSES, **options}), lambda network, x: network(
        x, torch.zeros(len(x), device=x.device), torch.zeros(len(x), dtype=torch.long, device=x.device))


def theirs(widths: tuple[int, ...]) -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
    """A `UNet2DModel` of these widths, two layers a block, attention at 8x8 places, and a call of it."""
    from diffusers import UNet2DModel

    plain, last = ("DownBlock2D",) * 2, ("DownBlock2D",)
    network = UNet2DModel(
        sample_size=SHAPE[1], in_channels=3, out_channels=3, num_class_embeds=CLASSES, layers_per_block=2,
        block_out_channels=widths, down_block_types=(*plain, "AttnDownBlock2D", *last),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"))
    return network, lambda network, x: network(
        x, torch.zeros(len(x), device=x.device), torch.zeros(len(x), dtype=torch.long, device=x.device)).sample


def rate(network: nn.Module, call: Callable[[nn.Module, Tensor], Tensor], compiled: bool, device: str,
         steps: int = 20) -> tuple[float, float]:
    """Pictures a second of training steps in bf16, and floating-point operations a second."""
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    x = torch.randn(BATCH, *SHAPE, device=device).contiguous(memory_format=torch.channels_last)
    work = 3 * flops(lambda: call(network, x[:8])) / 8
    run, taken = torch.compile(network, dynamic=False) if compiled else network, []
    for _ in range(steps + 3):
        begin = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            answer = call(run, x)
        (answer.float() - x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    each = BATCH / median(taken[3:])
    return each, work * each


def print_progress(event: Event) -> None:
    """One line for every tenth of a progress, and what was chosen."""
    if isinstance(event, Started):
        print(event.reasons, event.parameters, flush=True)
    if isinstance(event, Progress) and int(event.seconds) % 10 == 0:
        print(f"{event.seconds:.0f} s, {event.images:,} pictures, {event.rate:,.0f}/s, loss {event.loss}", flush=True)


def best(parquet: Path, minutes: float, out: Path) -> dict[str, float]:
    """Train as a user would, save samples, and judge them."""
    data, test = (orn.load_data(str(part)) for part in (parquet, parquet.with_name("test.parquet")))
    model = orn.Trainer(data, minutes=minutes, out=out / "run", overwrite=True).fit(print_progress)
    told = torch.arange(2000) % CLASSES
    samples = orn.sample(model, len(told), nfe=20, condition=told)
    x, labels = test.batch(np.arange(1000))
    figures = of_cifar(samples.cpu(), data, test)
    device = samples.device
    losses = 18 * orn.level_losses(model, x.to(device), LEVELS, condition=labels.to(device)).mean(0)
    show(model.data, samples[:100].cpu(), 10).save(out / "samples.png")
    return {"minutes": minutes, "images": model.metrics["images"] or 0, "held_out": model.metrics["held_out"] or 0,
            "term": float(losses.mean()), "term_error": float(losses.std() / len(losses) ** 0.5), **figures}


def main() -> None:
    """Rates, then the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parquet", type=Path, help="train.parquet, beside its test.parquet")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--widths", type=int, nargs=4, default=[64, 128, 160, 160], help="of diffusers' network")
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    top = ceiling(torch.bfloat16, side=8192 if device == "cuda" else 1024, device=device)
    print(f"bf16 matrix ceiling {top / 1e12:.1f} TFLOP/s", flush=True)
    rows = []
    for compiled in (False, True):
        for name, (network, call) in {"ornstein": ours(), "diffusers": theirs(tuple(asked.widths))}.items():
            weights = sum(value.numel() for value in network.parameters())
            each, work = rate(network, call, compiled, device)
            rows.append({"row": name, "compiled": compiled, "weights": weights, "images_per_second": each,
                         "share_of_ceiling": work / top})
            print(rows[-1], flush=True)
    (asked.out / "gpu.json").write_text(json.dumps({"ceiling": top, "rows": rows}), "utf-8")
    figures = best(asked.parquet, asked.minutes, asked.out)
    print(figures, flush=True)
    (asked.out / "gpu.json").write_text(json.dumps({"ceiling": top, "rows": rows, "model": figures}), "utf-8")


if __name__ == "__main__":
    main()
