"""The one loop that every sampler runs in."""

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
from ornstein.diffusion.denoiser import Batched, Denoiser, kind_of, pure_noise
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.grid import Moment, falling, grid, moments
from ornstein.diffusion.guidance import guided
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers.accurate import accurate
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
from ornstein.diffusion.schedule import MOST_STEPS
from ornstein.display import progress_callback
from ornstein.isolation import isolated
from ornstein.workers import run_pieces, shared_tensor

__all__ = ["AUTO", "NFE", "SAMPLERS", "Frame", "NotFinite", "chosen", "finite", "follow", "generate", "sample",
           "samplers", "usual_rows"]

NFE = 20  # network calls a sample when the caller names no budget
# Rows of one network call on a CPU, fixed so that a picture does not depend on its neighbours; half as many where a
# sample has more than VALUES, which the caches like better and two cores can share when 64 are drawn.
ROWS, VALUES = 64, 2048
# What "auto" is up to so many calls; benchmarks/README.md says why.
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
    """The samplers by name, each with its order, whether it is stochastic, its network calls a step, and the spacing of
    the grid of times that suits it, which was called "grid" before and has both names.
    """
    return {name: {"order": rule.order, "stochastic": rule.stochastic, "calls": rule.calls, "spacing": rule.spacing,
                   "grid": rule.spacing} for name, rule in SAMPLERS.items()}


class NotFinite(RuntimeError):
    """Samples that are no samples; they are its `samples`, for those who look for rules that fail."""

    def __init__(self, text: str, samples: Tensor) -> None:
        super().__init__(text)
        self.samples = samples


@dataclass(frozen=True)
class Frame:
    """One moment of a sampler's walk back.

    Args:
        time: from the first down to 0.
        latent: (count, *shape) z at that time; the finished samples at time 0.
        estimate: the denoiser's estimate there, whose `.x` is the picture as far as it is known; at time 0 that of
            the step before.
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
    """Draw samples: start from noise and walk back to the data, a network call or two a step.

    Args:
        denoiser: any `Denoiser`.
        count: how many samples, >= 1.
        sampler: a name of `samplers()`, a `Rule`, or "auto": what `ornstein.tune` chose for this model, just this
            nfe and just this guidance, else the best choice without tuning.
        nfe: budget of network calls a sample, never exceeded; a rule with e calls a step takes floor(nfe / e) steps.
            20 if neither nfe nor steps nor times is given.
        steps: steps of the rule, in place of nfe.
        times: decreasing from 1 to 0, in place of both; from any time if z is given.
        z: (B, *shape) latents at the first of the times, 1 unless `times` say otherwise, in place of noise; count is
            then ignored.
        condition: a class for all or (count,) classes, by number or by name; a vector (K,) for all, (count, K) of them;
            or None.
        guidance: scale of classifier-free guidance; None or 1 is the conditional model itself.
        seed: of the noise; the i-th sample of a seed is the same in any count.
        progress: whether to show a line of progress, with the time that is left, on standard error; or a function that
            is called with the share that is done.
        batch: rows of one network call; the last call is filled up, so that on a CPU a sample does not depend on its
            neighbours bit for bit. Unless given 256; on a CPU 64, or 32 where a sample has more than 2,048 values.
        tolerance: in (0, 1), in place of a sampler and a budget: the probability flow is followed by steps of order 5
            that each sample chooses so that one is wrong by no more, in units of the data.
        first: number of the first sample, so that the samples of a seed can be drawn part by part; a seed has 2^32.

    Returns:
        (count, *shape) samples, in the dtype and on the device of z if given, else of the denoiser.

    Raises:
        ValueError: two of nfe, steps and times; a budget below one step; times that do not fall from 1 to 0; an
            unknown sampler; shapes that do not fit. Nothing is computed before.
        RuntimeError: a tolerance that a sample does not reach in 2,000 steps; `NotFinite`, samples that are not finite,
            because the denoiser's answers are not.
    """
    if tolerance is not None:
        named = [name for name, value in (("nfe", nfe), ("steps", steps), ("times", times)) if value is not None]
        if named or sampler != "auto":
            raise ValueError(f"tolerance and {(named or ['sampler'])[0]} are both given; a tolerance chooses its steps")
        sampler, steps = "euler", 1  # of which none is taken
    walks = _walks(denoiser, count, sampler, nfe, steps, times, z, condition, guidance, seed, batch, first)
    blocks = [range(start, min(start + walks.rows, walks.count)) for start in range(0, walks.count, walks.rows)]
    samples = shared_tensor((walks.count, *denoiser.shape), walks.like)

    def draw(block: int) -> Iterator[None]:
        rows = blocks[block]
        for step, z in enumerate(walks.latents(rows, tolerance)):
            samples[rows.start:rows.stop] = z
            if not block:  # which is always this process's
                tell(step / (len(walks.times) - 1) / len(blocks))
            yield

    with progress_callback(progress, "sampling") as tell:
        for done in run_pieces(draw, len(blocks), samples.device):
            tell(done / len(blocks))
    return finite(samples)


@isolated(gradients=False, evaluating=True)
def generate(denoiser: Denoiser, count: int = 64, *, sampler: str | Rule = "auto", nfe: int | None = None,
             steps: int | None = None, times: Sequence[float] | Tensor | None = None, z: Tensor | None = None,
             condition: Condition = None, guidance: float | None = None, seed: int = 0,
             batch: int | None = None) -> Iterator[Frame]:
    """The walk of `sample` as it happens, one `Frame` a step and the finished samples last.

    Arguments and errors are those of `sample`; the checks run when it is called, the network when it is iterated.
    """
    walks = _walks(denoiser, count, sampler, nfe, steps, times, z, condition, guidance, seed, batch)
    return _checked(walks.frames(range(walks.count)))


def _checked(frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if frame.time == 0:
            finite(frame.latent)
        yield frame


def finite(x: Tensor) -> Tensor:
    """The samples, unless there is what is no number among them."""
    # Part by part: of all at once the intermediate results would be larger than the samples.
    if lost := sum(int((~part.isfinite()).flatten(1).any(1).sum()) for part in x.split(ROWS)):
        raise NotFinite(f"{lost} of {len(x)} samples are not finite: the model is broken, or the sampler or guidance "
                        "does not suit it; try another sampler, more calls or less guidance", x)
    return x


def _walks(denoiser: Denoiser, count: int, sampler: str | Rule, nfe: int | None, steps: int | None,
           times: Sequence[float] | Tensor | None, z: Tensor | None, condition: Condition, guidance: float | None,
           seed: int, batch: int | None, first: int = 0) -> Walks:
    """The walks that the arguments of `sample` ask for, after refusing what cannot be."""
    asked = guided(denoiser, guidance)
    rule, walk, choice = chosen(denoiser, sampler, nfe, steps, times, guidance, 1.0 if z is None else None)
    if choice is not None and choice.damping:
        asked = Damped(asked, choice.damping)
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
    count, like = (count, kind_of(denoiser)) if z is None else (len(z), z)
    first = require_int("first", first, 0, noise.MAX_INDEX + 1 - count)
    conditions = denoiser.read_condition(condition, count, "cpu")
    rows = usual_rows(denoiser, like) if batch is None else require_int("batch", batch)
    return Walks(asked, rule, walk, count, z, like, conditions, seed, rows, first)


def usual_rows(denoiser: Denoiser, like: Tensor) -> int:
    """Rows of one network call on the device of a tensor, where nobody says how many."""
    if like.device.type != "cpu":
        return 4 * ROWS
    return ROWS if math.prod(denoiser.shape) <= VALUES else ROWS // 2


@dataclass(frozen=True)
class Walks:
    """Walks from noise to data that are about to begin; each is the same alone and among others."""

    denoiser: Denoiser  # with its guidance
    rule: Rule
    times: Tensor  # (n + 1,) float64, down to 0
    count: int
    z: Tensor | None  # (count, *shape) where they start, if not in noise
    like: Tensor  # of the dtype and on the device of the samples
    conditions: Tensor | None  # one entry for each walk
    seed: int
    rows: int  # of one network call
    first: int = 0  # number of the first walk, by which the noise of each is known

    def numbers(self, rows: range) -> range:
        """What some of the walks are among all of the seed."""
        return range(self.first + rows.start, self.first + rows.stop)

    def start(self, rows: range) -> Tensor:
        """Where some of the walks start, (len(rows), *shape)."""
        if self.z is not None:
            return self.z[rows.start:rows.stop]
        return pure_noise(self.denoiser, self.seed, "start", self.numbers(rows), self.like)

    def conditions_of(self, rows: range) -> Tensor | None:
        """The conditions of some of the walks."""
        return None if self.conditions is None else self.conditions[rows.start:rows.stop]

    def latents(self, rows: range, tolerance: float | None = None) -> Iterator[Tensor]:
        """Where some of the walks are after each step of the rule, or at the end of as many as a tolerance takes."""
        if tolerance is None:
            yield from (frame.latent for frame in self.frames(rows))
        else:
            yield accurate(self.denoiser, self.start(rows), self.conditions_of(rows), self.rows, tolerance)

    def frames(self, rows: range) -> Iterator[Frame]:
        """Some of the walks, step by step."""
        z, denoise = self.start(rows), Batched(self.denoiser, self.conditions_of(rows), self.rows)
        walk = moments(self.denoiser.schedule, self.times, z)

        def draws(step: int, like: Tensor) -> Callable[[], Tensor]:
            return _draws(self.seed, self.numbers(rows), step, like)

        for t, latent, estimate in follow(self.rule, walk, z, denoise, draws):
            yield Frame(float(t), latent, estimate)


def follow(rule: Rule, walk: Sequence[Moment], z: Tensor, denoise: Batched,
           draws: Callable[[int, Tensor], Callable[[], Tensor]],
           estimate: Estimate | None = None) -> Iterator[tuple[Moment, Tensor, Estimate]]:
    """A walk by a rule, to data or to noise: each moment with the latent there and the estimate of it, the last moment,
    at which the denoiser is not asked, with that of the moment before.

    Args:
        rule: takes the steps.
        walk: the moments.
        z: the latent at the first.
        denoise: the denoiser.
        draws: from a step's number and its latent to the noise of the step.
        estimate: at the first moment, where the denoiser is not to be asked.
    """
    past: tuple[Call, ...] = ()

    def ask(z: Tensor, time: float) -> Estimate:
        return denoise(z, time.clock if isinstance(time, Moment) else as_time(time))

    estimate = ask(z, walk[0]) if estimate is None else estimate
    for number, (t, s) in enumerate(itertools.pairwise(walk)):
        yield t, z, estimate
        z = rule.advance(Step(denoise.denoiser.schedule, t, s, estimate, past, ask, draws(number, z)))
        past = (Call(t, estimate), *past)[:rule.memory]
        if s is not walk[-1]:
            estimate = ask(z, s)
    yield walk[-1], z, estimate


def chosen(denoiser: Denoiser, sampler: str | Rule, nfe: int | None, steps: int | None = None,
           times: Sequence[float] | Tensor | None = None, guidance: float | None = None,
           start: float | None = 1.0) -> tuple[Rule, Tensor, Choice | None]:
    """The rule and the times, (n + 1,) down to 0: what was tuned for just this, with the record of it, or what `plan`
    gives, and None.
    """
    choice = tuned_for(denoiser, nfe, steps, times, guidance) if sampler == "auto" else None
    if choice is None:
        return *plan(denoiser, sampler, nfe, steps, times, start), None
    return choice.rule(SAMPLERS), choice.walk(denoiser.schedule), choice


def tuned_for(denoiser: Denoiser, nfe: int | None, steps: int | None,
              times: Sequence[float] | Tensor | None, guidance: float | None = None) -> Choice | None:
    """What `ornstein.tune` chose for this model, just this many calls and just this guidance, or None."""
    if steps is not None or times is not None:
        return None
    budget = NFE if nfe is None else require_int("nfe", nfe, maximum=MOST_STEPS)
    choice = denoiser.tuned.get(tuned_key(budget, guidance))
    return None if choice is None or choice.sampler == "auto" else choice


def automatic(calls: int) -> str:
    """The name of the rule that "auto" is for a number of network calls, where nothing was tuned."""
    return next(name for most, name in AUTO if calls <= most)


def plan(denoiser: Denoiser, sampler: str | Rule, nfe: int | None, steps: int | None,
         times: Sequence[float] | Tensor | None, start: float | None = 1.0) -> tuple[Rule, Tensor]:
    """The rule, and the grid of times, (n + 1,) float64 down to 0, from whichever of the three ways was named."""
    named = [name for name, value in (("nfe", nfe), ("steps", steps), ("times", times)) if value is not None]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} are both given; give one of nfe, steps and times")
    walk = None if times is None else falling(times, start)
    budget = NFE if nfe is None else require_int("nfe", nfe, maximum=MOST_STEPS)
    steps = None if steps is None else require_int("steps", steps, maximum=MOST_STEPS)
    calls = len(walk) - 1 if walk is not None else budget if steps is None else steps
    rule = sampler if isinstance(sampler, Rule) else find(
        "sampler", sampler, {"auto": SAMPLERS[automatic(calls)], **SAMPLERS})
    if walk is not None:
        return rule, walk
    if steps is None:
        steps = budget // rule.calls
        if steps < 1:
            name = sampler if isinstance(sampler, str) else type(rule).__name__
            raise ValueError(f"nfe is {budget}; {name} needs at least {rule.calls} call{'s' * (rule.calls > 1)}")
    return rule, grid(denoiser.schedule, steps, rule.spacing)


def _draws(seed: int, samples: range, step: int, like: Tensor) -> Callable[[], Tensor]:
    """The noise of one step: its k-th draw is a function of (seed, sample, step, k) alone."""
    places = itertools.count(step, 1 << 32)
    return lambda: noise.per_sample(seed, "sample", samples, next(places), like)
