"""The walk that suits one model at one number of network calls, found on the model's own paths."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from ornstein import noise
from ornstein.arguments import require_int
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.guidance import guided
from ornstein.diffusion.samplers.choice import MOST, Choice
from ornstein.diffusion.samplers.learned import Learned
from ornstein.diffusion.samplers.loop import automatic
from ornstein.isolation import isolated
from ornstein.tuning.judge import SMALL, Judge
from ornstein.tuning.learn import Matching, improve, log_error, regressed, takes_gradients
from ornstein.tuning.paths import Starts, exact_starts
from ornstein.tuning.search import PLAIN, Walk, errors, known_walks, log_errors
from ornstein.tuning.student import Student

__all__ = ["tune", "usual_starts"]

FEW = 10  # calls up to which a rule is learned
STARTS, PUPILS = (128, 32), (256, 64)  # to search with and to learn from, for samples of up to SMALL values and else
ITERATIONS, LONGER = 25, 50  # of the gradients, for the weights and then for the times as well
ALIKE = 1.001  # of the least distance to data: what lies within is told apart by the error on the paths


@isolated(gradients=False, evaluating=True)
def tune(model: Denoiser, nfe: int, *, starts: int | None = None, condition: Condition = None, seed: int = 0,
         guidance: float | None = None, quick: bool = False, distance: Callable[[Tensor], float] | None = None,
         progress: Callable[[str], None] | None = None) -> Choice:
    """Find the rule and the times that are best at a number of network calls, and keep them in the model.

    The error is that against the end of the exact path (probability flow) from the same noise, followed in many steps.
    Every known rule walks every kind of grid; the steps of the best ones are then stretched by a smooth factor of the
    log SNR, whose values at a few knots are found by Nelder and Mead's method. Up to 10 calls a rule is learned as
    well (`Learned`): each step any weighted sum of all latents and velocities before it, by regression on exact paths,
    then by gradients of the error at the end (and of the samples' moments, with a distance to data; else of the times
    too). What was found is confirmed on as many starts again, which the search has not seen. With a distance to data,
    what is nearest is chosen, and among what is as near to 0.1 % what has the least error: a model's own flow is not
    its data, and an error may lead nearer to them. Then the velocity is damped (`Damped`) in steps of 0.01 while that
    brings the samples nearer, which must hold on other noise too. Where nothing is better than `sampler="auto"`
    without tuning, that is the choice.

    Args:
        model: any `Denoiser`; its `tuned` gets the choice.
        nfe: network calls a sample, 1 to 1,000.
        starts: noises to search with, >= 16; as many again confirm. Unless given 128, or 32 where a sample has more
            than 256 values.
        condition: a class or vector for all, (2 starts,) classes or (2 starts, K) vectors, or None.
        seed: of the noise, which is other noise than that of samples.
        guidance: scale of classifier-free guidance that the walk is for; None or 1 is none.
        quick: whether to leave out all that takes long: fitted times, gradients and damping.
        distance: of a set of samples to the data, smaller is better, called with (B, *shape) samples of the same noise.
        progress: called with a line of text now and then.

    Returns:
        The choice, with the median error on unseen starts of all that was confirmed.

    Raises:
        ValueError: nfe or starts out of range.
    """
    if require_int("nfe", nfe) > MOST:
        raise ValueError(f"nfe is {nfe}; it must be at most {MOST}")
    starts = usual_starts(model) if starts is None else require_int("starts", starts)
    if starts < 16:
        raise ValueError(f"starts is {starts}; it must be at least 16")
    tell = progress or (lambda _: None)
    asked = guided(model, guidance)
    conditions = asked.read_condition(condition, 2 * starts, "cpu")

    def followed(first: int, count: int, keep: bool = False) -> Starts:
        numbers = range(first, first + count)
        mine = None if conditions is None else conditions[[number % len(conditions) for number in numbers]]
        return exact_starts(asked, nfe, numbers, mine, seed, keep)

    search, unseen = followed(0, starts), followed(starts, starts)
    tell(f"{2 * starts} exact paths")
    # Times that are learned too bring samples nearer to the data, which are told from it more easily.
    fitted = not quick and (distance is None or nfe > FEW)
    walks = known_walks(asked, nfe, search, distance is not None or quick, fitted, tell)
    pupils = PUPILS[math.prod(model.shape) > SMALL]
    if nfe <= FEW:
        taught = followed(2 * starts, pupils, keep=True)
        gradients = not quick and takes_gradients(asked, taught)
        if not (quick or gradients):
            tell("no gradient goes through the model: a rule is learned by regression alone")
        walks |= _learned(asked, walks, taught, search, distance is not None, gradients)
        tell("a rule learned")
    wrong = {what: float(errors(asked, *walk, unseen).median()) for what, walk in walks.items()}
    wrong = {what: error for what, error in wrong.items() if math.isfinite(error)}
    judge = None if distance is None else Judge(asked, distance, 2 * starts + pupils, conditions, seed)
    far = {} if judge is None else {what: judge(*walks[what]) for what in wrong}
    tell(f"distance to data of each of {len(far)}")
    near = [what for what in wrong if not far or far[what] <= ALIKE * min(far.values())]
    chosen = min(near, key=wrong.__getitem__)
    apart, damping = "" if not far else f"; distance to data {far[chosen]:.4g}, of auto {far[PLAIN]:.4g}", 0.0
    if judge is not None and not quick:
        damping, least = judge.damped(*walks[chosen], far[chosen])
        apart += f", {least:.4g} with the velocity damped by {damping:.2f}" if damping else ""
    choice = _choice(model, nfe, guidance, chosen, walks[chosen], wrong, apart, damping)
    model.tuned[choice.key] = choice
    return choice


def usual_starts(model: Denoiser) -> int:
    """Noises to search with where nobody says how many."""
    return STARTS[math.prod(model.shape) > SMALL]


def _learned(model: Denoiser, walks: dict[str, Walk], pupils: Starts, search: Starts, judged: bool,
             gradients: bool) -> dict[str, Walk]:
    """The rules that are learned: on the times of auto if judged, else on those that lead nearest."""
    def wrong(student: Student) -> float:
        return log_errors(model, student.rule(), student.times(), search)

    found: dict[str, Walk] = {}
    # Of the grids, that of auto gives the samples that are hardest to tell from data (benchmarks/README.md).
    students = [regressed(model, times, pupils) for name, (_, times) in walks.items() if name == PLAIN or not judged]
    student = min(students, key=wrong)
    found["learned by regression"] = student.rule(), student.times()
    if gradients:
        for student in students:  # what regression makes of the times does not tell what gradients will
            improve(student, pupils, Matching(pupils.end) if judged else log_error, student.corrections, ITERATIONS)
        student = min(students, key=wrong)
        found["learned"] = student.rule(), student.times()
        if not judged:
            improve(student, pupils, log_error, [*student.corrections, student.gaps], LONGER)
            found["learned with its times"] = student.rule(), student.times()
    return found


def _choice(model: Denoiser, nfe: int, guidance: float | None, chosen: str, walk: Walk, wrong: dict[str, float],
            apart: str, damping: float) -> Choice:
    """The record of what was chosen, by words for it."""
    scale = 1.0 if guidance is None else float(guidance)
    if chosen == PLAIN and not damping:
        return Choice(nfe, PLAIN, errors=wrong, why="nothing was better than auto without tuning, which has a median "
                      f"error of {wrong[PLAIN]:.3g} on unseen starts{apart}", noise=noise.VERSION, guidance=scale)
    rule, times = walk
    why = (f"{chosen}: median error {wrong[chosen]:.3g} on unseen starts, where auto without tuning has "
           f"{wrong[PLAIN]:.3g}{apart}")
    facts = {"times": tuple(times.tolist()), "angles": tuple(model.schedule.level(times).angle.tolist()),
             "errors": wrong, "why": why, "damping": damping, "noise": noise.VERSION, "guidance": scale}
    if isinstance(rule, Learned):
        return Choice(nfe, Choice.LEARNED, points=rule.points, slopes=rule.slopes, **facts)
    return Choice(nfe, rule if isinstance(rule, str) else automatic(nfe), **facts)
