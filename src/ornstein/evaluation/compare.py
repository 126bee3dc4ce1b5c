"""Comparison of samples from any program with real ones: the parts of an evaluation that need no model."""

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
from ornstein.evaluation.alignment import Source, align, shared_rows
from ornstein.evaluation.costs import sample_costs, shares
from ornstein.evaluation.evaluate import FEATURES
from ornstein.evaluation.features import check_features
from ornstein.evaluation.images import add_images, shown_count
from ornstein.evaluation.memorisation import Memorisation, memorisation, row_digests
from ornstein.evaluation.pieces import Pieces, PieceStore
from ornstein.evaluation.preparation import MIN_TRAINING, MIN_UNSEEN, Rows, data_facts, split_off, without_duplicates
from ornstein.evaluation.progress import Progress, ProgressCallback
from ornstein.evaluation.reference import Reference
from ornstein.evaluation.report import Report
from ornstein.isolation import isolated

__all__ = ["compare"]

PARTS = ("features", "real data", "distances", "copies")
MAX_SETS = 6  # that are compared at once
PARTS_OF_REAL = 3  # equal parts: to compare with, to measure floors on, and to fit features to
UNSEEN = 2_000  # largest number of real rows to compare with


@dataclass
class _Real:
    """The real rows as training and unseen ones, notes on them, and whether they are exchangeable: no model is known to
    have been trained on any of them."""

    training: Dataset
    unseen: Dataset
    notes: list[str]
    exchangeable: bool = False


@isolated(gradients=True)
def compare(real: Any, *generated: Any, trained_on: Any = None, size: int | str | None = None, fit: str = "cut",
            spaces: Sequence[str] = FEATURES, seed: int = 0, names: Sequence[str] = (),
            tell: ProgressCallback | None = None) -> Report:
    """Measure how good samples from any program are: distances to real ones with error bars, and evidence of copies.

    This is `evaluate` without the parts that need a model, and gives the same figures on the same rows.

    Without `trained_on` the real samples are taken as one sample of one distribution. A third of them, at most 2,000,
    is compared with the generated ones in feature spaces; the distance of a second third from the first gives the
    floors; and spaces are fitted to the rest. A forest, tested on rows that it has not seen, tells the generated ones
    from all real ones; its floor is how well it tells that first third from the others.

    Args:
        real: real samples, a `Dataset` or anything that `load_data` takes.
        generated: sets of generated samples, one to six of them. Pictures of different sizes are all resized to the
            smallest; those in 0..1 or -1..1 are read as black to white, as bytes are.
        trained_on: what the program was trained on. All real samples that are not in it are then compared, and copies
            are looked for in it; otherwise in two thirds of the real samples. It may be `real` itself if that says
            which rows were held out: this is then an evaluation.
        size: side of the pictures in pixels, or width x height as in "48x32"; None is the size of the smallest, at
            most 64 pixels where files are read.
        fit: how picture files of another shape are changed to this one: "cut", "pad" or "stretch".
        spaces: feature spaces for distances, as for `evaluate`.
        seed: of all random draws.
        names: of the generated sets, for people; by default the names of their data.
        tell: as for `evaluate`.

    Returns:
        `Report` of the first set, with those of the others in `others`; print it, or write all of them as one page with
        `write_report`.

    Raises:
        ValueError: no generated set or more than six, too few samples, shapes that cannot agree, data that are all
            equal.
        FileNotFoundError: a path, or the file of a feature space, is missing.
    """
    if not 1 <= len(generated) <= MAX_SETS:
        raise ValueError(f"generated has {len(generated)} sets; from 1 to {MAX_SETS} are compared at once"
                         + (": name folders, or patterns in quotation marks" if generated else ""))
    if isinstance(spaces, str):
        raise TypeError(f"spaces is {spaces!r}; it must be a list of names")
    for space in spaces:
        check_features(space)
    # The training data if known, else the real ones, come first: they define the units.
    known = {"real": real} if trained_on is None else {"trained_on": trained_on, "real": real}
    known_sources = [Source.read(source, name, size, fit) for name, source in known.items()]
    sources = [Source.read(source, "generated", size, fit) for source in generated]
    aligned = align([*known_sources, *sources], None if size is None else require_size("size", size)[::-1], fit)
    real_data, sets = aligned[len(known_sources) - 1], aligned[len(known_sources):]
    rows = _split_real(real_data) if trained_on is None else _unseen_real(aligned[0], real_data)
    for data in sets:
        if len(data) < MIN_UNSEEN:
            raise ValueError(f"generated {data.spec.name!r} has {len(data)} {_noun(data)}; a comparison needs at least "
                             f"{MIN_UNSEEN}, and several hundred to show much: give more of them")
    reports = [_new_report(data, source, real_data, rows, seed) for data, source in zip(sets, sources, strict=True)]
    for report, name in zip(reports, names or _names(reports, generated), strict=True):
        report.name = name
    rows.notes += [note for source in known_sources for note in source.notes]
    return _measured(reports, sets, rows, spaces, seed, Progress(tell or (lambda *_: None), PARTS))


def _split_real(real: Dataset) -> _Real:
    """Split real rows of unknown role in two: those that are compared with samples, and the rest."""
    count = len(real)
    mask = np.zeros(count, bool)
    mask[np.random.default_rng(0).permutation(count)[:min(count // PARTS_OF_REAL, UNSEEN)]] = True
    training, unseen = split_off(real, mask)
    notes = list[str]()
    unseen, reason = without_duplicates(training, unseen, notes, f"the real {_noun(real)} to compare with")
    if len(unseen) < MIN_UNSEEN or len(training) < MIN_TRAINING:
        minimum = PARTS_OF_REAL * MIN_TRAINING // 2
        raise ValueError(f"real {real.spec.name!r} has {count} {_noun(real)}{f' ({reason})' if reason else ''}; a "
                         f"comparison needs at least {minimum}, and several hundred to show much: give more of them, "
                         "or say what the program was trained on (--trained-on)")
    return _Real(training, unseen, notes, exchangeable=True)


def _unseen_real(training: Dataset, real: Dataset) -> _Real:
    """Training rows, and the real rows that are not among them."""
    notes = list[str]()
    held = np.array(training.held)
    if held.any():
        digests = set(row_digests(real))
        # Rows held out of training are unseen if all of them are among the real ones; else they count as trained on.
        held_rows = split_off(training, held)[1]
        held[:] = held if all(digest in digests for digest in row_digests(held_rows)) else False
    training = split_off(training, held)[0]
    unseen, reason = without_duplicates(training, real, notes, f"real {_noun(real)}")
    for data, name, minimum in ((training, "trained_on", MIN_TRAINING), (unseen, "real", MIN_UNSEEN)):
        if len(data) < minimum:
            why = f" ({reason})" if reason and data is unseen else ""
            raise ValueError(f"{name} {data.spec.name!r} has {len(data)} {_noun(data)} that can be used{why}; a "
                             f"comparison needs at least {minimum}, and several hundred to show much: give more of "
                             "them")
    return _Real(training, unseen, notes)


def _new_report(data: Dataset, source: Source, real: Dataset, rows: _Real, seed: int) -> Report:
    """The report of a set, with all that is known before anything is measured."""
    count, pairs = shared_rows(data, real)
    notes = list(source.notes)
    if count:
        notes.append(f"{count:,} of the {len(data):,} generated {_noun(data)} are real ones too, to the last bit: "
                     f"{', '.join(pairs)}{' ...' if count > len(pairs) else ''}")
    drawn = {"count": len(data), "source": str(source_name(source.source) or data.spec.name), "also_real": count,
             "seed": seed}
    known = {"known": "real"} if rows.exchangeable else {}
    return Report(data.spec.name, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                  importlib.metadata.version("ornstein"), data_facts(rows.training, rows.unseen) | known, {}, drawn,
                  notes=notes)


def _measured(reports: list[Report], sets: list[Dataset], real: _Real, spaces: Sequence[str], seed: int,
              progress: Progress) -> Report:
    """The first report with its figures, and the others in it, part after part."""
    training, unseen = real.training, real.unseen
    smallest = min(map(len, sets))
    reference, fit = Reference.build(training, unseen, smallest, seed, real.exchangeable)
    if real.exchangeable:
        real.notes.insert(0, f"of the {len(training) + len(unseen):,} real {_noun(training)}, {len(unseen):,} are "
                             f"compared with the samples, {len(reference.floor_rows):,} others with these for the "
                             "floors, and features are fitted to the rest; forests tell the samples from all of them. "
                             "If you know what the program was trained on, name it (--trained-on)")
    real.notes += reference.notes
    if any(len(data) != smallest for data in sets):
        real.notes.append(f"the sets have different sizes: figures that depend on the number of {_noun(training)} "
                          f"are measured on at most {reference.count:,} of each, so that they can be compared")
    floors, distances, copies = sample_costs(training, reference, spaces, progress)
    progress.expect({"real data": sum(floors), "distances": len(sets) * sum(distances), "copies": len(sets) * copies})

    @contextmanager
    def part(name: str, count: int = 1) -> Iterator[list[Pieces]]:
        with progress(name) as update:
            yield [Pieces(PieceStore(), lambda done, *before, index=index: update((index + done) / count, *before),
                          progress.clock) for index in range(count)]

    with part("features") as (pieces,):
        reference.fit_spaces(pieces, spaces, fit)
    with part("real data") as (pieces,):
        reference.measure_floors(pieces, shares(floors))
    with part("distances", len(sets)) as parts:
        for report, data, pieces in zip(reports, sets, parts, strict=True):
            rows = Rows.of(data, reference.row_limit(data), seed)
            report.measures = reference.measure(pieces, rows.x, rows.condition, shares(distances))
    with part("copies", len(sets)) as parts:
        for report, data, pieces in zip(reports, sets, parts, strict=True):
            found = pieces.figures("copies", lambda data=data: memorisation(data, training, unseen, seed=seed),
                                   Memorisation.read)
            report.memorisation = found if data.names is None else replace(found, pairs=tuple(
                replace(pair, of=data.names[pair.sample]) for pair in found.pairs))
            rows = Rows.of(data, shown_count(data), seed)
            add_images(report, rows.x, rows.condition, unseen, training, lambda row, data=data: data.batch([row])[0])
    for report in reports:
        report.notes[:0] = real.notes
    reports[0].seconds, reports[0].others = progress.seconds, reports[1:]
    return reports[0]


def _names(reports: Sequence[Report], generated: Sequence[Any]) -> list[str]:
    """Names of the sets: those of their data or, if two are equal, their paths or numbers."""
    names = [report.name for report in reports]
    if len(set(names)) == len(names):
        return names
    paths = [source_name(source) for source in generated]
    distinct = all(isinstance(path, str) for path in paths) and len(set(map(str, paths))) == len(paths)
    return [str(path) for path in paths] if distinct else [f"{name} {index}" for index, name in enumerate(names, 1)]


def _noun(data: Dataset) -> str:
    return "pictures" if data.spec.kind == "picture" else "samples"
