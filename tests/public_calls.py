"""A small call of everything public, for tests that run them all in some state of torch or in another process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ornstein as orn
from ornstein.training.events import Interrupted, Progress, Started

F32 = {"dtype": torch.float32, "device": "cpu"}
F64 = {"dtype": torch.float64, "device": "cpu"}


def numbers(*shape: int, seed: int = 0, kind: Any = None) -> Tensor:
    """Standard normal numbers."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(**(kind or F32))


class Dropping(nn.Module):
    """A network of a user's own, which answers otherwise in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, **F32)
        self.drop = nn.Dropout(0.5)

    def forward(self, y: Tensor, log_snr: Tensor, condition: Tensor | None) -> Tensor:
        return self.drop(self.layer(y) * torch.tanh(log_snr)[:, None])


class Straight(orn.Schedule):
    """A schedule of a user's own."""

    def level(self, t: Tensor) -> orn.Level:
        return orn.Level(1 - 0.9 * t**2, 1.5 * t + 0.5 * t**3)


class Shrinking(orn.Denoiser):
    """A denoiser of a user's own."""

    def forward(self, z: Tensor, t: Tensor | float, condition: Any = None) -> orn.Estimate:
        return orn.Estimate.from_v(0.1 * z, z, self.level(z, t))


class Halfway(orn.Rule):
    """A sampler of a user's own."""

    order, calls = 1, 1

    def advance(self, step: orn.Step) -> Tensor:
        return step.turn(0.5)


def weights(module: nn.Module, seed: int = 3) -> nn.Module:
    """The module with all of its weights drawn anew: fresh networks answer 0."""
    with torch.no_grad():
        for number, value in enumerate(module.parameters()):
            value.copy_(0.3 * numbers(*value.shape, seed=seed + number))
    return module


def on_the_cpu(make: Callable[..., Any]) -> Callable[..., Any]:
    """Modules are made on torch's default device, as those of torch are; these are to be calculated with."""

    @functools.wraps(make)
    def made(*args: Any, **options: Any) -> Any:
        with torch.device("cpu"):
            return make(*args, **options)

    return made


@on_the_cpu
def mixture() -> orn.ExactMixture:
    return orn.ExactMixture(torch.tensor([0.5, 0.5], **F64), torch.tensor([[-1.0, 0.2], [1.0, -0.4]], **F64),
                            torch.tensor([0.1, 0.2], **F64), orn.Cosine())


@on_the_cpu
def plain() -> orn.NetworkDenoiser:
    """Points of a user's own network, in training mode."""
    return orn.NetworkDenoiser(weights(Dropping()), orn.Cosine(), (2,), x_range=(-1.0, 1.0)).train()


@on_the_cpu
def picture() -> orn.NetworkDenoiser:
    """Pictures of a U-Net, with all that a trained model has."""
    from ornstein.diffusion.linear import LinearGuess

    network = weights(orn.UNet((1, 4, 4), classes=2, widths=[8], depths=[1], hints=True, attention=True))
    guess = LinearGuess(numbers(16, seed=1).abs() + 0.1, shape=(1, 4, 4))
    return orn.NetworkDenoiser(network, orn.Cosine(), (1, 4, 4), data_std=0.5, data_mean=0.1, linear=guess,
                               x_range=(-1.0, 1.0)).eval()


@on_the_cpu
def network(kind: type[nn.Module], *args: Any, **options: Any) -> Any:
    """The answer of a network, the way it is drawn from a seed, and the gradients of its first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = kind(*args, **options)
    first = [value.detach().clone() for value in drawn.parameters()]
    y, log_snr = numbers(3, *args[0]), torch.tensor([-1.0, 0.0, 2.0], **F32)
    return first, weights(drawn)(y, log_snr, torch.tensor([0, -1, 1], device="cpu"))


def train() -> Any:
    """A training of three steps of a user's own network and of one of ours, with a folder, and that folder read."""
    x = numbers(64, 2).numpy()
    own = weights(on_the_cpu(Dropping)())
    own.drop.p = 0.0  # of numbers that torch draws and nobody repeats
    alone = orn.Trainer((x, (x[:, 0] > 0).astype(np.int64)), own, images=24,
                        settings=orn.Settings(batch=8)).fit()
    with tempfile.TemporaryDirectory() as place:
        settings = orn.Settings(batch=8, options={"width": 8, "depth": 1}, snapshots=2)
        trainer = orn.Trainer(x, "mlp", images=24, out=place, settings=settings, trackers=[Noting()])
        events = [type(event).__name__ for event in trainer.events()]
        model = orn.load(place)
        again, missed = orn.reaverage(place, 0.1)
    models = [one.state_dict() for one in (alone, model, again)]
    return models, sorted(set(events)), missed, sorted(set(trainer.trackers[0].seen))


class Noting:
    """A tracker of a user's own."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, event: Any) -> None:
        # How often, and whether there is a rate, is a matter of the clock.
        figures = set(getattr(event, "figures", ())) - {"images_per_second"}
        self.seen.append(",".join([type(event).__name__, *sorted(figures)]))


def board() -> list[str]:
    """What TensorBoard's tracker writes."""
    with tempfile.TemporaryDirectory() as place:
        tracker = orn.TensorBoard()
        tracker(Started(orn.Settings(), 1, 1, 0, "cpu", (), None, run=Path(place)))
        tracker(Progress(1, 0.5, 1.0, None, None, 1.0, 0.1, 1.0, 1.0, 0))
        tracker(Interrupted(1))
        return [str(path.stat().st_size) for path in Path(place).rglob("*tfevents*")]


def judge() -> Any:
    """An evaluation of few points, and its page."""
    x = numbers(400, 2, seed=5).numpy()
    report = orn.evaluate(mixture(), orn.load_data(x), count=150, nfe=2, spaces=["pixels"], likelihood=False)
    with tempfile.TemporaryDirectory() as place:
        orn.write_report(report, place)
        files = sorted(path.name for path in Path(place).iterdir())
    return files, [(one.name, one.value, one.low, one.high) for one in report.measures]


def beside() -> Any:
    """Two sets of samples beside real ones."""
    real, *made = (numbers(count, 2, seed=count).numpy() for count in (130, 40, 50))
    report = orn.compare(real, *made, spaces=["pixels"])
    return [(one.name, one.value, one.low, one.high) for other in (report, *report.others) for one in other.measures]


def saved() -> Any:
    """A model through its file."""
    with tempfile.TemporaryDirectory() as place:
        orn.save(picture(), Path(place) / "m.safetensors")
        digest = hashlib.sha256((Path(place) / "m.safetensors").read_bytes()).hexdigest()
        return digest, orn.load(Path(place) / "m.safetensors").state_dict()


def exported() -> Any:
    """What an exported sampler draws."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as place:
        orn.export(picture(), Path(place) / "m.onnx", 2)
        session = onnxruntime.InferenceSession(Path(place) / "m.onnx")
    return session.run(None, {"z": Q.detach().numpy(), "class": np.array([0, 1, -1])})


def spec() -> Any:
    """Data through their encoding, and back."""
    data = orn.load_data("digits")
    x, labels = data.batch([0, 5])
    return x, labels, data.spec.decode(x), data.spec.as_dict(), data.split()[1].digest()


def schedule(one: orn.Schedule) -> Any:
    """Everything that a schedule answers."""
    t = torch.tensor([0.1, 0.6], **F64)
    return one.level(t), one.level(t.float()), one.log_snr(0.3), one.time(0.7), one.time(numbers(3)), one.rates(t)


X, Z, EPS = numbers(5, 2), numbers(5, 2, seed=1), numbers(5, 2, seed=2)
P, Q = numbers(3, 1, 4, 4).clamp(-1, 1), numbers(3, 1, 4, 4, seed=1)
T = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], **F64)
HALF = torch.tensor([0.2, 0.5, 0.9], **F64)
INPUTS = ("X", "Z", "EPS", "P", "Q", "T", "HALF")

TIMES = [0.0, 0.2, 0.6, 1.0]


def decoded() -> Any:
    return [orn.Decoder(model, how).reverse(Z, 0.3, 0.6) for model in (mixture(), plain())
            for how in ("posterior", "beta", torch.tensor(0.1, **F32))]


def encoded() -> Any:
    cosine = orn.Encoder(orn.Cosine())
    return (orn.draw(orn.Encoder(orn.Chain.linear(10)).kernel(X, 0.5), EPS), cosine.step(Z, 0.2, 0.4),
            orn.Encoder(orn.Linear()).posterior(X, Z, 0.1, T + 0.05), list(cosine.walk(X, [0.0, 0.3, 0.8])))


def exact_set() -> Any:
    one = on_the_cpu(orn.ExactDataset)(X, orn.Cosine())
    return one(Z, T), one.log_prob_at(Z, T), one.draw(3)


def exact_gaussian() -> Any:
    covariance = torch.tensor([[1.0, 0.2], [0.2, 0.5]], **F64)
    one = on_the_cpu(orn.ExactGaussian)(X[0], covariance, orn.Cosine())
    return one(Z, T), one.log_prob(X), one.draw(3)


def sampled() -> Any:
    return (orn.sample(plain(), 3, nfe=6), orn.sample(plain(), 2, tolerance=0.5), orn.sample(picture(), z=Q, nfe=3),
            [orn.sample(mixture(), 2, sampler=name, steps=2, condition=1) for name in ("dpm++sde", "edm", "unipc")])


def requested() -> Any:
    model = picture()
    model.data = orn.DataSpec("grey", "picture", (1, 4, 4), 0.0, 4.0, 5, ("dark", "light"), "HW")
    return orn.Request(count=3, label="light", nfe=3).draw(model)


def looked_at() -> Any:
    """Samples of a walk through each kind of file that they are shown in."""
    model = picture()
    model.data = orn.DataSpec("grey", "picture", (1, 4, 4), 0.0, 4.0, 5, ("dark", "light"), "HW")
    with tempfile.TemporaryDirectory() as place:
        film, sheet, many = (str(Path(place) / name) for name in ("a.gif", "b.webp", "many"))
        last = orn.save_film(orn.generate(model, 3, nfe=3), film, model.data, scale=1)
        orn.save_sheet(model, {"nfe": [2, 3], "label": ["dark", "light"]}, sheet)
        orn.save_pictures(last, many, model.data, scale=2)
        return last, [path.read_bytes().hex() for path in sorted(Path(place).rglob("*")) if path.is_file()]


def near() -> Any:
    data = orn.load_data("digits")
    return [vars(one) for one in orn.nearest(data.batch([3])[0], data, 3)[0]]


def tuned() -> Any:
    """A search that is short, but has all of its parts."""
    model = plain()
    with pytest.MonkeyPatch.context() as patch:
        for name, few in (("search.FIT_EVALUATIONS", 10), ("search.MIN_EVALUATIONS", 5), ("tune.ITERATIONS", 2),
                          ("tune.TIMES_ITERATIONS", 2)):
            patch.setattr(f"ornstein.tuning.{name}", few)
        return orn.tune(model, 2, starts=16).errors, orn.sample(model, 3, nfe=2)


# By the public names that a call is of.
CALLS: dict[str, Callable[[], Any]] = {
    "adopt": lambda: orn.adopt(lambda x, sigma: x / (1 + sigma[:, None] ** 2), convention="k-diffusion",
                               shape=(2,))(Z, T),
    "load save": saved,
    "export": exported,
    "DataSpec Dataset load_data": spec,
    "Damped": lambda: orn.Damped(picture(), 0.1)(Q, HALF, 1),
    "Guided": lambda: (orn.Guided(picture(), 2.0)(Q, HALF, 1),
                       orn.sample(picture(), 2, nfe=3, guidance=3.0, condition=1)),
    "Decoder": decoded,
    "Denoiser": lambda: orn.sample(Shrinking(orn.Linear(), (2,)), 3, nfe=4),
    "NetworkDenoiser": lambda: (picture()(Q, HALF, 1), plain().eval()(Z, 0.4)),
    "Encoder draw": encoded,
    "Estimate": lambda: [getattr(orn.Estimate.from_x(X, Z, orn.Cosine().level(T)), name)
                         for name in ("x", "eps", "v", "score")],
    "ExactDataset": exact_set,
    "ExactGaussian": exact_gaussian,
    "ExactMixture": lambda: (mixture()(Z, T), mixture()(Z, T, 1), mixture().log_prob(X, 0), mixture().draw(3)),
    "Bound elbo": lambda: (orn.elbo(mixture(), X, TIMES), orn.elbo(plain(), X, TIMES),
                           orn.elbo(picture(), (P * 2).round() / 2, TIMES, levels=5, condition=1)),
    "bound_times": lambda: orn.bound_times(orn.Cosine(), 16),
    "continuous_elbo": lambda: (orn.continuous_elbo(plain(), X[:2], draws=2),
                                orn.continuous_elbo(picture(), P, draws=2, proposal="uniform")),
    "dequantise": lambda: orn.dequantise((P * 2).round() / 2, 5),
    "Flow ode_likelihood": lambda: (orn.ode_likelihood(mixture(), X[:2], t=0.6, tolerance=0.5), orn.ode_likelihood(
        picture(), P[:1], "hutchinson", t=0.99, tolerance=0.5, condition=0)),
    "ode_log_prob": lambda: orn.ode_log_prob(plain(), X[:2], t=0.6, tolerance=0.5),
    "optimal_variance": lambda: orn.optimal_variance(plain(), X, TIMES),
    "denoising_loss": lambda: [orn.denoising_loss(picture(), P, HALF, Q, weighting=how)
                               for how in ("unit", "eps", "x", "v")],
    "Operator restore": lambda: (orn.restore(mixture(), X[:2, :1], torch.tensor([[1.0, 2.0]], **F32), 0.1, 2, nfe=3),
                                 orn.restore(picture(), P.mean((1, 3)), orn.Operator(
                                     (1, 4, 4), (4,), lambda x: x.mean((1, 3))), 0.1, nfe=2, condition=1)),
    "inpaint": lambda: orn.inpaint(picture(), P, torch.eye(4, **F32), 2, nfe=2, condition=1, guidance=2.0),
    "vary": lambda: orn.vary(picture(), P, 0.4, 2, nfe=4),
    "invert": lambda: (orn.invert(plain(), X, nfe=8), orn.invert(picture(), P, nfe=8, condition=1)),
    "interpolate": lambda: orn.interpolate(picture(), P[:1], P[1:2], 3, nfe=4),
    "generate": lambda: [(frame.time, frame.latent, frame.estimate) for frame in orn.generate(plain(), 3, nfe=4)],
    "sample": sampled,
    "samplers": orn.samplers,
    "Request": requested,
    "save_film save_pictures save_sheet": looked_at,
    "nearest Neighbour": near,
    "Rule Step": lambda: orn.sample(mixture(), 3, sampler=Halfway(), steps=3),
    "denoising_score_loss": lambda: orn.denoising_score_loss(mixture(), X, T, EPS),
    "explicit_score_loss": lambda: orn.explicit_score_loss(
        picture(), on_the_cpu(orn.ExactDataset)(P, orn.Cosine()), Q, HALF),
    "implicit_score_loss": lambda: (orn.implicit_score_loss(mixture(), Z, T),
                                    orn.implicit_score_loss(plain().eval(), Z, T, probes=2)),
    "level_losses": lambda: orn.level_losses(plain(), X, [-2.0, 3.0]),
    "Chain": lambda: (schedule(orn.Chain.linear(10)), orn.Chain([0.1, 0.2]).alpha),
    "Cosine": lambda: schedule(orn.Cosine()),
    "Exploding": lambda: schedule(orn.Exploding()),
    "Level Linear": lambda: (schedule(orn.Linear()), orn.Linear().level(T).fit(Z), orn.Linear().level(T).angle),
    "Schedule": lambda: (schedule(Straight()), orn.grid(Straight(), 5)),
    "grid": lambda: [orn.grid(orn.Cosine(), 6, spacing) for spacing in ("time", "angle", "log_snr", "karras", "power")],
    "UNet": lambda: network(orn.UNet, (1, 6, 6), classes=2, widths=[8, 16], depths=[1, 1], attention=True),
    "DiT": lambda: network(orn.DiT, (1, 4, 4), classes=2, width=12, depth=1, heads=3),
    "MLP": lambda: network(orn.MLP, (3,), classes=2, width=16, depth=1),
    "Settings": lambda: orn.Settings.from_yaml(orn.Settings(images=5).to_yaml()).as_dict(),
    "TensorBoard": board,
    "compare": beside,
    "evaluate write_report Report": judge,
    "Trainer Tracker reaverage": train,
    "tune": tuned,
}
LARGE = ("tune", "Trainer Tracker reaverage", "TensorBoard")  # seconds rather than hundredths
LARGEST = ("evaluate write_report Report", "compare", "export")  # several seconds


def arrays(value: Any) -> Iterator[np.ndarray]:
    """Everything in a result, as arrays."""
    if isinstance(value, Tensor):
        yield value.detach().numpy()
    elif dataclasses.is_dataclass(value):
        yield from arrays(vars(value))
    elif isinstance(value, torch.distributions.Distribution):
        yield from arrays([value.mean, value.stddev])
    elif isinstance(value, dict):
        for name in sorted(value, key=str):
            yield np.array(str(name))
            yield from arrays(value[name])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays(part)
    else:
        yield value if isinstance(value, np.ndarray) else np.array(value if value is not None else "None")


def results(names: Iterable[str]) -> dict[str, str]:
    """A hash of the result of each call, of its shapes, types and bits."""
    torch.set_num_threads(1)  # sums in parallel are rounded in another order for another number of threads
    return {name: digest(CALLS[name]()) for name in names}


def digest(found: Any) -> str:
    """A hash of everything in a result."""
    seen = hashlib.sha256()
    for array in arrays(found):
        seen.update(f"{array.dtype.str} {array.shape}".encode() + array.tobytes())
    return seen.hexdigest()
