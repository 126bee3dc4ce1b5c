"""Quality per minute: our default with a third and a half of the time beside U-Nets of diffusers and azula.

Two judges: the held-out diffusion term, which no parametrisation favours, and samples of 20 network calls. Every row
trains in a process of its own, one after the other.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ceiling import ceiling, flops
from cifar import PARQUET, pooled
from judges import Drawn, Judge
from unets import FORMS, PEERS, train

import ornstein as orn
from ornstein.evaluation.classifier import forest_auc
from ornstein.evaluation.distances import frechet

CALLS = 20
LEVELS = -9 + 18 * (torch.arange(24, dtype=torch.float64) + 0.5) / 24  # log SNR; their mean times 18 is the integral
SECONDS = {"digits": 60.0, "cifar": 900.0}
SHARES = {"": 1.0, ", half the time": 1 / 2, ", a third": 1 / 3}
SAMPLES = {"digits": 2000, "cifar": 1000}
HELD = 1000  # test pictures, at most, that the term is taken of


def term(model: orn.Denoiser, x: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Half the integral of E |eps - eps-hat|^2 over log SNR in [-9, 9], nats a value, and its standard error."""
    losses = 18 * orn.level_losses(model, x, LEVELS, condition=labels).mean(0)
    return float(losses.mean()), float(losses.std() / len(losses) ** 0.5)


def of_cifar(samples: torch.Tensor, data: orn.Dataset, test: orn.Dataset) -> dict[str, float]:
    """Fréchet distance of pictures pooled to 8x8 over that of as many training pictures, and a forest's AUC."""
    trained, unseen = data.batch(np.arange(len(samples)))[0], test.batch(np.arange(len(test)))[0]
    real, held, fake = (pooled(data.spec.decode(part).astype(np.float64)) for part in (trained, unseen, samples))
    flat = [part.reshape(len(part), -1) for part in (held, fake, real)]
    return {"fd": frechet(flat[0], flat[1]) / frechet(flat[0], flat[2]), "auc": forest_auc(real, fake)}


def of_digits(samples: torch.Tensor, labels: torch.Tensor, data: orn.Dataset) -> dict[str, float]:
    """The figures of `judges.py`."""
    figures = Judge(data)(Drawn("", samples, labels))
    return {name: float(figures[name]) for name in ("recognised", "fd", "auc")}


def row(name: str, which: str, seconds: float, parquet: Path, seed: int, rate: float | None) -> dict[str, Any]:
    """Train, measure and judge one row; with the rate of a quiet machine a peer sees what it sees there in the time."""
    torch.manual_seed(seed)
    source = "digits" if which == "digits" else str(parquet)
    data = orn.load_data(source)
    training, held = data.split()
    test = held if which == "digits" else orn.load_data(str(parquet.with_name("test.parquet")))
    x, labels = test.batch(np.arange(min(HELD, len(test))))
    classes = len(data.spec.classes)
    top = ceiling(torch.float32)
    used = time.perf_counter()
    if name.startswith("ornstein"):
        share = SHARES[name.removeprefix("ornstein")]
        with tempfile.TemporaryDirectory() as folder:
            model = orn.Trainer(source, minutes=share * seconds / 60, seed=seed, out=Path(folder) / "run").fit()
        images, network = int(model.metrics["images"]), model.network
    else:
        peer, _, form = name.partition(", ")
        model = PEERS[peer](data.spec.shape, classes)
        images = train(model, form, *training.batch(np.arange(len(training))), which == "cifar",
                       images=round(rate * seconds) if rate else None, seconds=seconds)
        network = model.network
    used = time.perf_counter() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    work = 3 * flops(lambda: model(x[:4], 0.5, labels[:4])) / 4  # forward, and twice as much backward
    rate = rate or images / used
    result = {"row": name, "data": which, "seed": seed, "seconds": used, "images": images, "rate": rate,
              "weights": sum(value.numel() for value in network.parameters()), "memory_gib": memory,
              "share_of_ceiling": work * rate / top, "ceiling": top}
    result["term"], result["term_error"] = term(model, x, labels)
    told = torch.arange(classes).repeat_interleave(SAMPLES[which] // classes)
    result |= judged(orn.sample(model, len(told), nfe=CALLS, condition=told, seed=seed), told, which, data, test)
    if not name.startswith("ornstein"):
        own = torch.cat([model.own_samples(part, CALLS) for part in told.split(250)])
        result |= {f"own_{key}": value for key, value in judged(own, told, which, data, test).items()}
    return result


def quiet_rate(name: str, which: str, parquet: Path) -> float:
    """Pictures a second of a peer's training, on a machine that does nothing else."""
    data = orn.load_data("digits" if which == "digits" else str(parquet)).split()[0]
    peer, _, form = name.partition(", ")
    model, rows = PEERS[peer](data.spec.shape, len(data.spec.classes)), data.batch(np.arange(len(data)))
    train(model, form, *rows, which == "cifar", seconds=3)
    begin = time.perf_counter()
    return train(model, form, *rows, which == "cifar", seconds=15) / (time.perf_counter() - begin)


def judged(samples: torch.Tensor, labels: torch.Tensor, which: str, data: orn.Dataset,
           test: orn.Dataset) -> dict[str, float]:
    """The sample figures of a set of samples."""
    return of_digits(samples, labels, data) if which == "digits" else of_cifar(samples, data, test)


def table(rows: list[dict[str, Any]]) -> str:
    """All rows, one a line; of two samplers the better figure of each kind."""
    lines = [f"{'row':34s} {'seed':>4s} {'s':>6s} {'images':>9s} {'images/s':>8s} {'weights':>9s} {'GiB':>5s} "
             f"{'ceiling':>7s} {'term':>15s} {'FD':>7s} {'AUC':>6s} {'recognised':>10s}"]
    for each in rows:
        fd, auc = (min(each[key], each.get(f"own_{key}", each[key])) for key in ("fd", "auc"))
        known = max(each.get("recognised", 0), each.get("own_recognised", 0))
        lines.append(f"{each['data'] + ' ' + each['row']:34s} {each['seed']:4d} {each['seconds']:6.1f} "
                     f"{each['images']:9,d} {each['rate']:8.0f} {each['weights']:9,d} {each['memory_gib']:5.2f} "
                     f"{each['share_of_ceiling']:7.0%} {each['term']:8.4f}±{each['term_error']:.4f} {fd:7.3f} "
                     f"{auc:6.3f} {format(known, '10.4f') if known else '         -'}")
    return "\n".join(lines)


def main() -> None:
    """Run the rows that are asked for and print the table of all that a file holds."""
    names = [f"{peer}, {form}" for form in FORMS for peer in PEERS] + [f"ornstein{share}" for share in SHARES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=list(SECONDS), default="digits")
    parser.add_argument("--seconds", type=float, help="of a whole training; 60 for the digits, 900 for CIFAR-10")
    parser.add_argument("--rows", nargs="*", default=names, help="; ".join(names))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--parquet", type=Path, default=PARQUET)
    parser.add_argument("--out", type=Path, default=Path("quality.jsonl"), help="one line of JSON a row, added to")
    parser.add_argument("--measure-rates", action="store_true", help="of the peers, for --rates")
    parser.add_argument("--rates", type=Path, help="file of them: a peer then sees as many pictures as a quiet machine "
                        "gives it in the time, however busy this one is")
    asked = parser.parse_args()
    if unknown := set(asked.rows) - set(names):
        parser.error(f"--rows knows {'; '.join(names)}; not {'; '.join(sorted(unknown))}")
    if asked.measure_rates:
        rates = {name: quiet_rate(name, asked.data, asked.parquet) for name in asked.rows if "," in name
                 and not name.startswith("ornstein")}
        print(json.dumps(rates, indent=1))
        if asked.rates:
            asked.rates.write_text(json.dumps(rates), "utf-8")
        return
    rates = json.loads(asked.rates.read_text("utf-8")) if asked.rates else {}
    for name in asked.rows:
        for seed in asked.seeds:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                done = pool.apply(row, (name, asked.data, asked.seconds or SECONDS[asked.data], asked.parquet, seed,
                                        rates.get(name)))
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done) + "\n")
            print(table([done]), flush=True)
    print(table([json.loads(line) for line in asked.out.read_text("utf-8").splitlines()]))


if __name__ == "__main__":
    main()
