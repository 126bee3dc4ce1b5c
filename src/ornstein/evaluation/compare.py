"""Samples of any program beside real ones: all of an evaluation that needs no model."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ornstein.arguments import require_size
from ornstein.data import Dataset, source_name
from ornstein.evaluation.compared import Compared
from ornstein.evaluation.evaluate import FEATURES
from ornstein.evaluation.features import check
from ornstein.evaluation.images import add_images, shown
from ornstein.evaluation.kept import Kept, Pieces
from ornstein.evaluation.memorisation import Memorisation, memorisation, row_digests
from ornstein.evaluation.pace import Pace, Tell
from ornstein.evaluation.report import Report
from ornstein.evaluation.rows import LEAST, LEAST_TRAINING, Rows, disjoint, facts_of, without
from ornstein.evaluation.together import Source, overlap, together
from ornstein.evaluation.trials import of_samples, shares
from ornstein.isolation import isolated

__all__ = ["MOST", "compare"]

PARTS = ("features", "real data", "distances", "copies")
MOST = 6  # sets that are compared at once
PARTS_OF_REAL = 3  # as many to compare with, to measure floors on, and to fit features to
UNSEEN = 2_000  # real rows, at most, to compare with


@dataclass
class _Real:
    """The real rows in their two parts, whether nobody is known to have been trained on either, and notes on them."""

    training: Dataset
    unseen: Dataset
    notes: list[str]
    alike: bool = False


@isolated(gradients=True)
def compare(real: Any, *generated: Any, trained_on: Any = None, size: int | str | None = None, fit: str = "cut",
            spaces: Sequence[str] = FEATURES, seed: int = 0, names: Sequence[str] = (),
            tell: Tell | None = None) -> Report:
    """Find out how good samples are, from whatever program: distances to real ones with error bars, and evidence of
    copies. It is `evaluate` without the parts that need a model, and on the same rows its figures are the same.

    Without `trained_on` the real samples are one sample of one law. A third of them, at most 2,000, is what the
    generated ones are compared with in feature spaces, a second third gives the floors by its distance from the first,
    and spaces are fitted to the others. A forest, which is asked about rows that it has not seen, tells the generated
    ones from all real ones; its floor is how well it tells that first third from the others.

    Args:
        real: real samples, a `Dataset` or what `load_data` takes.
        generated: sets of generated samples, one to six of them. Pictures of other sizes are all resized to the
            smallest; those in 0..1 or -1..1 are read as black to white, as bytes are.
        trained_on: what the program was trained on. All real samples that are not in it are compared with then, and
            copies are looked for in it; else in two thirds of the real samples. It may be `real` itself, if that says
            which rows were held out: then it is an evaluation.
        size: side of the pictures in pixels, or width x height as in "48x32"; None is the size of the smallest, at
            most 64 pixels where files are read.
        fit: how picture files of another shape become this one: "cut", "pad" or "stretch".
        spaces: feature spaces for distances, as for `evaluate`.
        seed: of all that is drawn.
        names: of the generated sets, for people; what their data are called unless given.
        tell: as for `evaluate`.

    Returns:
        `Report` of the first set, with those of the others in `others`; print it, or make a page of all of them with
        `write_report`.

    Raises:
        ValueError: no generated set or more than six, too few samples, shapes that cannot agree, data that are all
            alike.
        FileNotFoundError: a path, or the file of a feature space, that is not there.
    """
    if not 1 <= len(generated) <= MOST:
        raise ValueError(f"generated has {len(generated)} sets; from 1 to {MOST} are compared at once"
                         + (": name folders, or patterns in quotation marks" if generated else ""))
    if isinstance(spaces, str):
        raise TypeError(f"spaces is {spaces!r}; it must be a list of names")
    for space in spaces:
        check(space)
    # What samples were trained on, if it is known, or else the real ones, come first: they say what units are.
    known = {"real": real} if trained_on is None else {"trained_on": trained_on, "real": real}
    before = [Source.read(one, name, size, fit) for name, one in known.items()]
    sources = [Source.read(one, "generated", size, fit) for one in generated]
    alike = together([*before, *sources], None if size is None else require_size("size", size)[::-1], fit)
    there, sets = alike[len(before) - 1], alike[len(before):]
    both = _apart(there) if trained_on is None else _unseen(alike[0], there)
    for one in sets:
        if len(one) < LEAST:
            raise ValueError(f"generated {one.spec.name!r} has {len(one)} {_things(one)}; a comparison needs at least "
                             f"{LEAST}, and some hundred to show much: give more of them")
    reports = [_begun(one, source, there, both, seed)
               for one, source in zip(sets, sources, strict=True)]
    for report, name in zip(reports, names or _names(reports, generated), strict=True):
        report.name = name
    both.notes += [note for one in before for note in one.notes]
    return _filled(reports, sets, both, spaces, seed, Pace(tell or (lambda *_: None), PARTS))


def _apart(real: Dataset) -> _Real:
    """Real rows in two parts, one of which is compared with samples, and the other again in two."""
    count = len(real)
    some = np.zeros(count, bool)
    some[np.random.default_rng(0).permutation(count)[:min(count // PARTS_OF_REAL, UNSEEN)]] = True
    training, unseen = without(real, some)
    notes = list[str]()
    unseen, said = disjoint(training, unseen, notes, f"the real {_things(real)} to compare with")
    if len(unseen) < LEAST or len(training) < LEAST_TRAINING:
        least = PARTS_OF_REAL * LEAST_TRAINING // 2
        raise ValueError(f"real {real.spec.name!r} has {count} {_things(real)}{f' ({said})' if said else ''}; a "
                         f"comparison needs at least {least}, and some hundred to show much: give "
                         "more of them, or say what the program was trained on (--trained-on)")
    return _Real(training, unseen, notes, alike=True)


def _unseen(training: Dataset, real: Dataset) -> _Real:
    """Training rows, and the real ones that are none of them."""
    notes = list[str]()
    held = np.array(training.held)
    if held.any():
        there = set(row_digests(real))
        # Rows that a training holds out are unseen ones where they are real ones here; else all were trained on.
        aside = without(training, held)[1]
        held[:] = held if all(digest in there for digest in row_digests(aside)) else False
    training = without(training, held)[0]
    unseen, said = disjoint(training, real, notes, f"real {_things(real)}")
    for data, what, least in ((training, "trained_on", LEAST_TRAINING), (unseen, "real", LEAST)):
        if len(data) < least:
            why = f" ({said})" if said and data is unseen else ""
            raise ValueError(f"{what} {data.spec.name!r} has {len(data)} {_things(data)} that can be used{why}; a "
                             f"comparison needs at least {least}, and some hundred to show much: give more of them")
    return _Real(training, unseen, notes)


def _begun(one: Dataset, source: Source, real: Dataset, both: _Real, seed: int) -> Report:
    """The report of a set, with all that is known before anything is measured."""
    count, pairs = overlap(one, real)
    notes = list(source.notes)
    if count:
        notes.append(f"{count:,} of the {len(one):,} generated {_things(one)} are real ones too, to the last bit: "
                     f"{', '.join(pairs)}{' ...' if count > len(pairs) else ''}")
    drawn = {"count": len(one), "source": str(source_name(source.source) or one.spec.name), "also_real": count,
             "seed": seed}
    known = {"known": "real"} if both.alike else {}
    return Report(one.spec.name, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                  importlib.metadata.version("ornstein"), facts_of(both.training, both.unseen) | known, {}, drawn,
                  notes=notes)


def _filled(reports: list[Report], sets: list[Dataset], both: _Real, spaces: Sequence[str], seed: int,
            pace: Pace) -> Report:
    """The reports with their figures, part after part, the first of them with the others in it."""
    training, unseen = both.training, both.unseen
    fewest = min(map(len, sets))
    compared, fit = Compared.of(training, unseen, fewest, seed, both.alike)
    if both.alike:
        both.notes.insert(0, f"of the {len(training) + len(unseen):,} real {_things(training)}, {len(unseen):,} are "
                             f"compared with the samples, {len(compared.other):,} others with these for the floors, "
                             "and features are fitted to the rest; forests tell the samples from all of them. What a "
                             "program was trained on is named beside them (--trained-on)")
    both.notes += compared.notes
    if any(len(one) != fewest for one in sets):
        both.notes.append(f"the sets have different sizes: figures that depend on the number of {_things(training)} "
                          f"are measured on at most {compared.count:,} of each, so that they can be compared")
    floors, distances, copies = of_samples(training, compared, spaces, pace)
    pace.expect({"real data": sum(floors), "distances": len(sets) * sum(distances), "copies": len(sets) * copies})

    @contextmanager
    def part(name: str) -> Iterator[list[Pieces]]:
        with pace(name) as share:
            yield [Pieces(Kept(), lambda done, place=place: share((place + done) / len(sets)), pace.clock)
                   for place in range(len(sets))]

    with pace("features") as share:
        compared.learn(Pieces(Kept(), share, pace.clock), spaces, fit)
    with pace("real data") as share:
        compared.floors(Pieces(Kept(), share, pace.clock), shares(floors))
    with part("distances") as pieces:
        for report, one, piece in zip(reports, sets, pieces, strict=True):
            rows = Rows.of(one, compared.most(one), seed)
            report.measures = compared.measures(piece, rows.x, rows.condition, shares(distances))
    with part("copies") as pieces:
        for report, one, piece in zip(reports, sets, pieces, strict=True):
            found = piece("copies", lambda one=one: memorisation(one, training, unseen, seed=seed), Memorisation.read)
            report.memorisation = found if one.names is None else replace(found, pairs=tuple(
                replace(pair, of=one.names[pair.sample]) for pair in found.pairs))
            rows = Rows.of(one, shown(one), seed)
            add_images(report, rows.x, rows.condition, unseen, training, lambda row, one=one: one.batch([row])[0])
    for report in reports:
        report.notes[:0] = both.notes
    reports[0].seconds, reports[0].others = pace.seconds, reports[1:]
    return reports[0]


def _names(reports: Sequence[Report], generated: Sequence[Any]) -> list[str]:
    """What the sets are called: their data's names, or where two have the same one, their places or numbers."""
    own = [report.name for report in reports]
    if len(set(own)) == len(own):
        return own
    places = [source_name(one) for one in generated]
    apart = all(isinstance(one, str) for one in places) and len(set(map(str, places))) == len(places)
    return [str(one) for one in places] if apart else [f"{name} {place}" for place, name in enumerate(own, 1)]


def _things(data: Dataset) -> str:
    return "pictures" if data.spec.kind == "picture" else "samples"
