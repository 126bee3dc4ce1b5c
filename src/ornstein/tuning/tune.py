"""The best walk for one model and one number of network calls, found on the model's own paths."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from ornstein import noise
from ornstein.arguments import require_int
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.guidance import guided
from ornstein.diffusion.samplers.choice import MAX_CALLS, Choice
from ornstein.diffusion.samplers.learned import Learned
from ornstein.diffusion.samplers.loop import auto_rule, plan_walk
from ornstein.isolation import isolated
from ornstein.tuning.judge import SMALL, Judge
from ornstein.tuning.learn import Matching, fit_by_regression, improve, log_error, takes_gradients
from ornstein.tuning.paths import Starts, exact_starts
from ornstein.tuning.search import PLAIN, Walk, errors, known_walks, log_errors
from ornstein.tuning.student import Student

__all__ = ["tune", "usual_starts"]

LEARNED_CALLS = 10  # up to which a rule is learned
# For the search and for learning: of samples of at most SMALL values, and of larger ones.
STARTS, LEARNING_STARTS = (128, 32), (256, 64)
ITERATIONS, TIMES_ITERATIONS = 25, 50  # of L-BFGS, for the weights alone and for weights and times
TIE = 1.001  # times the smallest distance to data, within which the error on the paths decides
# Auto's grid is too coarse if its samples are MAX_RATIO times as far from the data as those of MANY_CALLS.
MANY_CALLS, MAX_RATIO = 20, 2.0


@isolated(gradients=False, evaluating=True)
def tune(model: Denoiser, nfe: int, *, starts: int | None = None, condition: Condition = None, seed: int = 0,
         guidance: float | None = None, quick: bool = False, distance: Callable[[Tensor], float] | None = None,
         progress: Callable[[str], None] | None = None) -> Choice:
    """Find the best rule and times for a number of network calls, and store them in the model.

    The error is the distance to the end of the exact path (probability flow) from the same noise, followed in many
    steps. Every known rule is tried on every kind of grid; the steps of the best ones are then stretched by a smooth
    factor of the log SNR, whose values at a few knots are fitted by the Nelder-Mead method. Up to 10 calls a rule is
    learned as well (`Learned`): each step is a weighted sum of all latents and velocities so far, fitted by regression
    on exact paths, then by gradients of the error at the end (together with the samples' moments if there is a
    distance to data, and with the times otherwise, or if those of auto are far too coarse). The candidates are
    confirmed on as many new starts. With a distance to data, the nearest candidate is chosen, and among those within
    0.1 % of it the one with the smallest error: a model's own flow does not lead exactly to its data, and an error may
    lead closer to them. Then the velocity is damped (`Damped`) in steps of 0.01 as long as that brings the samples
    nearer, which must also hold on other noise. If nothing is better than `sampler="auto"` without tuning, that is the
    choice.

    Args:
        model: any `Denoiser`; its `tuned` gets the choice.
        nfe: network calls per sample, 1 to 1,000.
        starts: number of noises to search with, >= 16; as many new ones confirm. By default 128, or 32 if a sample has
            more than 256 values.
        condition: a class or vector for all, (2 starts,) classes or (2 starts, K) vectors, or None.
        seed: of the noise, which differs from the noise of samples.
        guidance: scale of classifier-free guidance that the walk is for; None or 1 for none.
        quick: whether to leave out the slow parts: fitted times, gradients and damping.
        distance: from a set of samples, (B, *shape), to the data; smaller is better.
        progress: called with a line of text from time to time.

    Returns:
        The choice, with the median error of each candidate on new starts.

    Raises:
        ValueError: nfe or starts is out of range.
    """
    if require_int("nfe", nfe) > MAX_CALLS:
        raise ValueError(f"nfe is {nfe}; it must be at most {MAX_CALLS}")
    starts = usual_starts(model) if starts is None else require_int("starts", starts)
    if starts < 16:
        raise ValueError(f"starts is {starts}; it must be at least 16")
    report = progress or (lambda _: None)
    denoiser = guided(model, guidance)
    conditions = denoiser.read_condition(condition, 2 * starts, "cpu")

    def starts_from(first: int, count: int, keep: bool = False) -> Starts:
        indices = range(first, first + count)
        condition = None if conditions is None else conditions[[index % len(conditions) for index in indices]]
        return exact_starts(denoiser, nfe, indices, condition, seed, keep)

    search, unseen = starts_from(0, starts), starts_from(starts, starts)
    report(f"{2 * starts} exact paths")
    # Fitted times bring samples nearer to the data, but make them easier to tell from it.
    fitted = not quick and (distance is None or nfe > LEARNED_CALLS)
    walks = known_walks(denoiser, nfe, search, distance is not None or quick, fitted, report)
    learning_starts = LEARNING_STARTS[math.prod(model.shape) > SMALL]
    judge = None if distance is None else Judge(denoiser, distance, 2 * starts + learning_starts, conditions, seed)
    distances = {} if judge is None else {PLAIN: judge(*walks[PLAIN])}
    if nfe <= LEARNED_CALLS:
        learning = starts_from(2 * starts, learning_starts, keep=True)
        gradients = not quick and takes_gradients(denoiser, learning)
        if not (quick or gradients):
            report("the model cannot be differentiated: a rule is learned by regression alone")
        is_coarse = judge is not None and distances[PLAIN] > MAX_RATIO * judge(
            *plan_walk(denoiser, PLAIN, MANY_CALLS, None, None))
        walks |= _learned(denoiser, walks, learning, search, judge is not None, is_coarse, gradients)
        report("a rule learned")
    medians = {name: float(errors(denoiser, *walk, unseen).median()) for name, walk in walks.items()}
    medians = {name: error for name, error in medians.items() if math.isfinite(error)}
    if judge is not None:
        distances |= {name: judge(*walks[name]) for name in medians if name != PLAIN}
    report(f"distance to data of each of {len(distances)}")
    nearest = [name for name in medians if not distances or distances[name] <= TIE * min(distances.values())]
    chosen = min(nearest, key=medians.__getitem__)
    note, damping = "", 0.0
    if judge is not None:
        note = f"; distance to data {distances[chosen]:.4g}, of auto {distances[PLAIN]:.4g}"
        if not quick:
            damping, minimum = judge.best_damping(*walks[chosen], distances[chosen])
            note += f", {minimum:.4g} with the velocity damped by {damping:.2f}" if damping else ""
    choice = _choice(model, nfe, guidance, chosen, walks[chosen], medians, note, damping)
    model.tuned[choice.key] = choice
    return choice


def usual_starts(model: Denoiser) -> int:
    """The default number of noises to search with."""
    return STARTS[math.prod(model.shape) > SMALL]


def _learned(model: Denoiser, walks: dict[str, Walk], learning: Starts, search: Starts, judged: bool, is_coarse: bool,
             gradients: bool) -> dict[str, Walk]:
    """The learned rules: if `judged` by a distance, on the times of auto, or from the best known ones if that grid
    `is_coarse`; else on those with the smallest error.
    """
    def error(student: Student) -> float:
        return log_errors(model, student.rule(), student.times(), search)

    learned, names = dict[str, Walk](), [*walks]
    if is_coarse:  # only a grid of one call per step uses all calls
        full = {name: walk for name, walk in walks.items() if len(walk[1]) == len(walks[PLAIN][1])}
        names = [min(full, key=lambda name: log_errors(model, *full[name], search))]
    elif judged:  # the grid of auto gives the samples that are hardest to tell from data (benchmarks/README.md)
        names = [PLAIN]
    students = [fit_by_regression(model, walks[name][1], learning) for name in names]
    student = min(students, key=error)
    learned["learned by regression"] = student.rule(), student.times()
    if gradients:
        cost = Matching(learning.end) if judged else log_error
        for student in students:  # the best one after regression need not be the best after gradients
            improve(student, learning, cost, student.corrections, ITERATIONS)
        student = min(students, key=error)
        learned["learned"] = student.rule(), student.times()
        if not judged or is_coarse:
            improve(student, learning, cost, [*student.corrections, student.gaps], TIMES_ITERATIONS)
            learned["learned with its times"] = student.rule(), student.times()
    return learned


def _choice(model: Denoiser, nfe: int, guidance: float | None, chosen: str, walk: Walk, medians: dict[str, float],
            note: str, damping: float) -> Choice:
    """The record of the chosen candidate."""
    scale = 1.0 if guidance is None else float(guidance)
    if chosen == PLAIN and not damping:
        return Choice(nfe, PLAIN, errors=medians, why="nothing was better than auto without tuning, which has a median "
                      f"error of {medians[PLAIN]:.3g} on unseen starts{note}", noise=noise.VERSION, guidance=scale)
    rule, times = walk
    why = (f"{chosen}: median error {medians[chosen]:.3g} on unseen starts, where auto without tuning has "
           f"{medians[PLAIN]:.3g}{note}")
    fields = {"times": tuple(times.tolist()), "angles": tuple(model.schedule.level(times).angle.tolist()),
              "errors": medians, "why": why, "damping": damping, "noise": noise.VERSION, "guidance": scale}
    if isinstance(rule, Learned):
        return Choice(nfe, Choice.LEARNED, points=rule.points, slopes=rule.slopes, **fields)
    return Choice(nfe, rule if isinstance(rule, str) else auto_rule(nfe), **fields)
