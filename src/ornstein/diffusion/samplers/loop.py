"""The sampling loop, shared by all rules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ornstein import noise
from ornstein.arguments import find, require_int
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.damping import Damped
from ornstein.diffusion.denoiser import Batched, Denoiser, pure_noise, reference_tensor
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.grid import Moment, decreasing_times, grid, walk_moments
from ornstein.diffusion.guidance import guided
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers.accurate import follow_flow
from ornstein.diffusion.samplers.adams import Adams
from ornstein.diffusion.samplers.ancestral import Ancestral
from ornstein.diffusion.samplers.choice import Choice, tuned_key
from ornstein.diffusion.samplers.churn import Churn
from ornstein.diffusion.samplers.ddim import DDIM
from ornstein.diffusion.samplers.dpm import DPM
from ornstein.diffusion.samplers.heun import Heun
from ornstein.diffusion.samplers.langevin import Langevin
from ornstein.diffusion.samplers.multistep import Multistep
from ornstein.diffusion.samplers.rule import Call, Rule, Step
from ornstein.diffusion.samplers.runge import CLASSIC, EULER, RungeKutta
from ornstein.diffusion.samplers.single import SingleStep
from ornstein.diffusion.samplers.stochastic import StochasticAdams
from ornstein.diffusion.schedule import MAX_STEPS
from ornstein.display import progress_callback
from ornstein.isolation import isolated
from ornstein.workers import run_pieces, shared_tensor

__all__ = ["AUTO", "NFE", "SAMPLERS", "Frame", "NotFinite", "auto_rule", "check_finite", "choose_walk",
           "default_rows", "generate", "plan_walk", "run_walk", "sample", "samplers"]

NFE = 20  # network calls per sample by default
# Rows of a network call on a CPU, fixed so that a picture does not depend on its neighbours; half as many if a sample
# has more than VALUES values, which suits the caches, and lets two cores share a draw of 64.
ROWS, VALUES = 64, 2048
# Maximum calls, and the rule of "auto" up to there; benchmarks/README.md says why.
AUTO = ((5, "adams-bashforth"), (10, "adams-moulton2"), (math.inf, "adams-moulton"))

SAMPLERS: dict[str, Rule] = {
    "adams": Adams(),
    "adams-bashforth": Multistep("v", 3),
    "adams-moulton": Multistep("v", 3, corrected=True),
    "adams-moulton2": Multistep("v", 2, corrected=True, variance=3.0),
    "ancestral": Ancestral(),
    "ancestral-beta": Ancestral("beta"),
    "ddim": DDIM(),
    "ddim-eta": DDIM(eta=0.5),
    "deis": Multistep("eps", 3),
    "dpm++": DPM(),
    "dpm++2s": SingleStep("x"),
    "dpm++3m": Multistep("x", 3),
    "dpm++sde": StochasticAdams(order=2, tau=1.0),
    "dpm2": SingleStep("eps"),
    "edm": Churn(),
    "euler": RungeKutta(*EULER, order=1),
    "heun": Heun(),
    "langevin": Langevin(),
    "rk4": RungeKutta(*CLASSIC, order=4),
    "sa": StochasticAdams(order=2, tau=0.5),
    "unipc": Multistep("x", 2, corrected=True),
}


def samplers() -> dict[str, dict[str, object]]:
    """The samplers by name, each with its order, whether it is stochastic, its network calls per step, and the spacing
    of the grid of times that suits it, also under its former name "grid".
    """
    return {name: {"order": rule.order, "stochastic": rule.stochastic, "calls": rule.calls, "spacing": rule.spacing,
                   "grid": rule.spacing} for name, rule in SAMPLERS.items()}


class NotFinite(RuntimeError):
    """Some samples are not finite; `samples` holds them all, for a search over rules."""

    def __init__(self, text: str, samples: Tensor) -> None:
        super().__init__(text)
        self.samples = samples


@dataclass(frozen=True)
class Frame:
    """A moment of a sampler's walk.

    Args:
        time: from the first time down to 0.
        latent: (count, *shape) z at that time; the finished samples at time 0.
        estimate: the denoiser's estimate there, whose `.x` is the current estimate of the samples; at time 0 that of
            the last step.
    """

    time: float
    latent: Tensor
    estimate: Estimate


@isolated(gradients=False, evaluating=True)
def sample(denoiser: Denoiser, count: int = 64, *, sampler: str | Rule = "auto", nfe: int | None = None,
           steps: int | None = None, times: Sequence[float] | Tensor | None = None, z: Tensor | None = None,
           condition: Condition = None, guidance: float | None = None, seed: int = 0,
           progress: bool | Callable[[float], None] = False, batch: int | None = None,
           tolerance: float | None = None, first: int = 0) -> Tensor:
    """Draw samples: start from noise and walk back to the data, with one or more network calls per step.

    Args:
        denoiser: any `Denoiser`.
        count: number of samples, >= 1.
        sampler: a name of `samplers()`, a `Rule`, or "auto": the choice of `ornstein.tune` for this model, nfe and
            guidance, or the best choice without tuning.
        nfe: budget of network calls per sample, never exceeded; a rule with e calls per step takes floor(nfe / e)
            steps. 20 if none of nfe, steps and times is given.
        steps: steps of the rule, in place of nfe.
        times: decreasing from 1 to 0, in place of both; from any time if z is given.
        z: (B, *shape) latents at the first of the times, by default 1, in place of noise; count is then ignored.
        condition: a class for all or (count,) classes, by number or by name; a vector (K,) for all or (count, K)
            vectors; or None.
        guidance: scale of classifier-free guidance; None or 1 for the conditional model itself.
        seed: of the noise; the i-th sample of a seed is the same for any count.
        progress: whether to show a line of progress, with the time left, on standard error; or a function that is
            called with the share that is done.
        batch: rows of a network call; the last call is padded, so that on a CPU a sample does not depend on its
            neighbours, bit for bit. By default 256; on a CPU 64, or 32 if a sample has more than 2,048 values.
        tolerance: in (0, 1), in place of a sampler and a budget: the probability flow is followed in steps of order 5,
            adapted for each sample so that the error of a step is at most this, in units of the data.
        first: index of the first sample, so that the samples of a seed can be drawn in parts; a seed has 2^32.

    Returns:
        (count, *shape) samples, in the dtype and on the device of z if given, else of the denoiser.

    Raises:
        ValueError: two of nfe, steps and times; a budget below one step; times that do not decrease from 1 to 0;
            an unknown sampler; shapes that do not fit. These are checked before any computation.
        RuntimeError: a tolerance that a sample does not reach in 2,000 steps; `NotFinite` for samples that are not
            finite, because the denoiser's estimates are not.
    """
    if tolerance is not None:
        named = [name for name, value in (("nfe", nfe), ("steps", steps), ("times", times)) if value is not None]
        if named or sampler != "auto":
            raise ValueError(f"tolerance and {(named or ['sampler'])[0]} are both given; a tolerance chooses its steps")
        sampler, steps = "euler", 1  # unused
    walks = _prepare(denoiser, count, sampler, nfe, steps, times, z, condition, guidance, seed, batch, first)
    blocks = [range(start, min(start + walks.rows, walks.count)) for start in range(0, walks.count, walks.rows)]
    samples = shared_tensor((walks.count, *denoiser.shape), walks.like)

    def draw(block: int) -> Iterator[None]:
        rows = blocks[block]
        for step, z in enumerate(walks.latents(rows, tolerance)):
            samples[rows.start:rows.stop] = z
            if not block:  # the first block is always drawn by this process
                on_progress(step / (len(walks.times) - 1) / len(blocks))
            yield

    with progress_callback(progress, "sampling") as on_progress:
        for done in run_pieces(draw, len(blocks), samples.device):
            on_progress(done / len(blocks))
    return check_finite(samples)


@isolated(gradients=False, evaluating=True)
def generate(denoiser: Denoiser, count: int = 64, *, sampler: str | Rule = "auto", nfe: int | None = None,
             steps: int | None = None, times: Sequence[float] | Tensor | None = None, z: Tensor | None = None,
             condition: Condition = None, guidance: float | None = None, seed: int = 0,
             batch: int | None = None) -> Iterator[Frame]:
    """The walk of `sample` as it happens, one `Frame` per step and the finished samples last.

    Arguments and errors are those of `sample`; the checks run when it is called, the network when it is iterated.
    """
    walks = _prepare(denoiser, count, sampler, nfe, steps, times, z, condition, guidance, seed, batch)
    return _check_last(walks.frames(range(walks.count)))


def _check_last(frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if frame.time == 0:
            check_finite(frame.latent)
        yield frame


def check_finite(x: Tensor) -> Tensor:
    """Return the samples; NotFinite if any of them is not finite."""
    # In chunks, whose intermediate results are small.
    if lost := sum(int((~chunk.isfinite()).flatten(1).any(1).sum()) for chunk in x.split(ROWS)):
        raise NotFinite(f"{lost} of {len(x)} samples are not finite: the model is broken, or the sampler or guidance "
                        "does not suit it; try another sampler, more calls or less guidance", x)
    return x


def _prepare(denoiser: Denoiser, count: int, sampler: str | Rule, nfe: int | None, steps: int | None,
             times: Sequence[float] | Tensor | None, z: Tensor | None, condition: Condition, guidance: float | None,
             seed: int, batch: int | None, first: int = 0) -> Walks:
    """The walks for the arguments of `sample`, which are checked here."""
    model = guided(denoiser, guidance)
    rule, walk, choice = choose_walk(denoiser, sampler, nfe, steps, times, guidance, 1.0 if z is None else None)
    if choice is not None and choice.damping:
        model = Damped(model, choice.damping)
    require_int("seed", seed, 0, noise.MAX_SEED)
    if z is None:
        count = require_int("count", count)
    elif not isinstance(z, Tensor):
        raise TypeError(f"z is a {type(z).__name__}; it must be a tensor (torch.as_tensor makes one of an array)")
    elif z.shape[1:] != denoiser.shape or not len(z) or not z.is_floating_point():
        raise ValueError(f"z has shape {tuple(z.shape)} and dtype {z.dtype}; it must be a floating-point tensor "
                         f"(B, {', '.join(map(str, denoiser.shape))}) with B >= 1")
    elif lost := int((~z.isfinite()).sum()):
        raise ValueError(f"z holds {lost} values that are not finite; every value must be a finite number")
    count, like = (count, reference_tensor(denoiser)) if z is None else (len(z), z)
    first = require_int("first", first, 0, noise.MAX_INDEX + 1 - count)
    conditions = denoiser.read_condition(condition, count, "cpu")
    rows = default_rows(denoiser, like) if batch is None else require_int("batch", batch)
    return Walks(model, rule, walk, count, z, like, conditions, seed, rows, first)


def default_rows(denoiser: Denoiser, like: Tensor) -> int:
    """The default number of rows of a network call on the device of `like`."""
    if like.device.type != "cpu":
        return 4 * ROWS
    return ROWS if math.prod(denoiser.shape) <= VALUES else ROWS // 2


@dataclass(frozen=True)
class Walks:
    """Walks from noise to data, ready to start; each is independent of the others."""

    denoiser: Denoiser  # with guidance and damping
    rule: Rule
    times: Tensor  # (n + 1,) float64, down to 0
    count: int
    z: Tensor | None  # (count, *shape) latents to start from, or None for noise
    like: Tensor  # with the dtype and device of the samples
    conditions: Tensor | None  # one entry per walk
    seed: int
    rows: int  # of a network call
    first: int = 0  # index of the first walk among those of the seed

    def indices(self, rows: range) -> range:
        """The indices of some walks among those of the seed."""
        return range(self.first + rows.start, self.first + rows.stop)

    def start(self, rows: range) -> Tensor:
        """The first latents of some walks, (len(rows), *shape)."""
        if self.z is not None:
            return self.z[rows.start:rows.stop]
        return pure_noise(self.denoiser, self.seed, "start", self.indices(rows), self.like)

    def conditions_of(self, rows: range) -> Tensor | None:
        """The conditions of some walks."""
        return None if self.conditions is None else self.conditions[rows.start:rows.stop]

    def latents(self, rows: range, tolerance: float | None = None) -> Iterator[Tensor]:
        """The latents of some walks after each step of the rule, or with a tolerance only the samples."""
        if tolerance is None:
            yield from (frame.latent for frame in self.frames(rows))
        else:
            yield follow_flow(self.denoiser, self.start(rows), self.conditions_of(rows), self.rows, tolerance)

    def frames(self, rows: range) -> Iterator[Frame]:
        """The frames of some walks."""
        z, denoise = self.start(rows), Batched(self.denoiser, self.conditions_of(rows), self.rows)
        walk = walk_moments(self.denoiser.schedule, self.times, z)

        def noise_of(step: int, like: Tensor) -> Callable[[], Tensor]:
            return _step_noise(self.seed, self.indices(rows), step, like)

        for t, latent, estimate in run_walk(self.rule, walk, z, denoise, noise_of):
            yield Frame(float(t), latent, estimate)


def run_walk(rule: Rule, walk: Sequence[Moment], z: Tensor, denoise: Batched,
             noise_of: Callable[[int, Tensor], Callable[[], Tensor]],
             estimate: Estimate | None = None) -> Iterator[tuple[Moment, Tensor, Estimate]]:
    """Walk by a rule, to data or to noise: yields each moment with its latent and estimate. At the last moment the
    denoiser is not called, and the estimate is that of the moment before.

    Args:
        rule: takes the steps.
        walk: the moments.
        z: the latent at the first moment.
        denoise: the denoiser.
        noise_of: from the index of a step and its latent to a function that draws its noise.
        estimate: the estimate at the first moment, if the denoiser is not to be called there.
    """
    past: tuple[Call, ...] = ()

    def denoise_at(z: Tensor, time: float) -> Estimate:
        return denoise(z, time.clock if isinstance(time, Moment) else as_time(time))

    estimate = denoise_at(z, walk[0]) if estimate is None else estimate
    for step, (t, s) in enumerate(itertools.pairwise(walk)):
        yield t, z, estimate
        z = rule.advance(Step(denoise.denoiser.schedule, t, s, estimate, past, denoise_at, noise_of(step, z)))
        past = (Call(t, estimate), *past)[:rule.memory]
        if s is not walk[-1]:
            estimate = denoise_at(z, s)
    yield walk[-1], z, estimate


def choose_walk(denoiser: Denoiser, sampler: str | Rule, nfe: int | None, steps: int | None = None,
                times: Sequence[float] | Tensor | None = None, guidance: float | None = None,
                start: float | None = 1.0) -> tuple[Rule, Tensor, Choice | None]:
    """The rule and the times, (n + 1,) down to 0: of the tuned choice for these arguments, with that choice, or of
    `plan_walk`, with None.
    """
    choice = tuned_choice(denoiser, nfe, steps, times, guidance) if sampler == "auto" else None
    if choice is None:
        return *plan_walk(denoiser, sampler, nfe, steps, times, start), None
    return choice.rule(SAMPLERS), choice.walk(denoiser.schedule), choice


def tuned_choice(denoiser: Denoiser, nfe: int | None, steps: int | None,
                 times: Sequence[float] | Tensor | None, guidance: float | None = None) -> Choice | None:
    """The choice of `ornstein.tune` for this model, number of calls and guidance, or None."""
    if steps is not None or times is not None:
        return None
    budget = NFE if nfe is None else require_int("nfe", nfe, maximum=MAX_STEPS)
    choice = denoiser.tuned.get(tuned_key(budget, guidance))
    return None if choice is None or choice.sampler == "auto" else choice


def auto_rule(calls: int) -> str:
    """The name of the rule that "auto" stands for at a number of network calls, without tuning."""
    return next(name for maximum, name in AUTO if calls <= maximum)


def plan_walk(denoiser: Denoiser, sampler: str | Rule, nfe: int | None, steps: int | None,
              times: Sequence[float] | Tensor | None, start: float | None = 1.0) -> tuple[Rule, Tensor]:
    """The rule and the times, (n + 1,) float64 down to 0, from one of nfe, steps and times."""
    named = [name for name, value in (("nfe", nfe), ("steps", steps), ("times", times)) if value is not None]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} are both given; give one of nfe, steps and times")
    walk = None if times is None else decreasing_times(times, start)
    budget = NFE if nfe is None else require_int("nfe", nfe, maximum=MAX_STEPS)
    steps = None if steps is None else require_int("steps", steps, maximum=MAX_STEPS)
    calls = len(walk) - 1 if walk is not None else budget if steps is None else steps
    rule = sampler if isinstance(sampler, Rule) else find(
        "sampler", sampler, {"auto": SAMPLERS[auto_rule(calls)], **SAMPLERS})
    if walk is not None:
        return rule, walk
    if steps is None:
        steps = budget // rule.calls
        if steps < 1:
            name = sampler if isinstance(sampler, str) else type(rule).__name__
            raise ValueError(f"nfe is {budget}; {name} needs at least {rule.calls} call{'s' * (rule.calls > 1)}")
    return rule, grid(denoiser.schedule, steps, rule.spacing)


def _step_noise(seed: int, samples: range, step: int, like: Tensor) -> Callable[[], Tensor]:
    """The noise of a step: its k-th draw is a function of (seed, sample, step, k) alone."""
    steps = itertools.count(step, 1 << 32)
    return lambda: noise.per_sample(seed, "sample", samples, next(steps), like)
