"""Two models are ranked only where their error bars have nothing in common."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ornstein.evaluation.ranking import compare_likelihoods, compare_measures
from ornstein.evaluation.report import Interval, Likelihood, Measure


def measure(low: float, high: float, best: float = 0.0, limit: bool = True) -> Measure:
    middle = (low + high) / 2
    return Measure("any", "Any", "", Interval(middle, middle if limit else None, low, high), None, best, 100, 100)


@pytest.mark.parametrize(("one", "other", "best", "who"), [
    ((0.1, 0.2), (0.3, 0.4), 0.0, "A"),
    ((0.1, 0.3), (0.3, 0.4), 0.0, None),  # they touch
    ((0.8, 0.9), (0.6, 0.7), 1.0, "A"),
    ((0.66, 0.72), (0.30, 0.35), 0.5, None),  # on either side of a guess, and as far from it
    ((0.60, 0.62), (0.20, 0.35), 0.5, "A"),
    ((0.49, 0.52), (0.60, 0.70), 0.5, "A"),
    ((0.90, 1.15), (1.02, 1.05), 1.0, None),
])
def test_better_is_nearer_to_the_best_score_where_the_intervals_are_apart(one, other, best, who):
    a, b = measure(*one, best), measure(*other, best)
    assert compare_measures(a, b)[0] == who
    assert compare_measures(b, a)[0] == {None: None, "A": "B", "B": "A"}[who]


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.sampled_from([0.0, 0.5, 1.0]))
def test_ranking_is_fair_to_both(ends, best):
    a, b = measure(*sorted(ends[:2]), best), measure(*sorted(ends[2:]), best)
    forth, back = compare_measures(a, b)[0], compare_measures(b, a)[0]
    assert {forth, back} in ({None}, {"A", "B"})
    assert compare_measures(a, a)[0] is None


def test_other_data_and_other_counts_are_not_compared():
    a, b = measure(0.1, 0.2), measure(0.3, 0.4)
    assert compare_measures(a, b, same_data=False) == (None, "not ranked: other data")
    assert compare_measures(a, replace(b, generated=50))[0] == "A"  # a limit does not depend on the number
    a, b = measure(0.1, 0.2, limit=False), measure(0.3, 0.4, limit=False)
    assert compare_measures(a, replace(b, generated=50)) == (None, "not ranked: other counts")


def test_likelihoods_need_the_same_grid_and_a_gap():
    one = Likelihood("bound", "Bound", "64 steps", -10.0, 0.5, 100)
    assert compare_likelihoods(one, replace(one, nats=-11.0))[0] is None
    assert compare_likelihoods(one, replace(one, nats=-13.0))[0] == "A"
    assert compare_likelihoods(one, replace(one, nats=-7.0))[0] == "B"
    assert "another grid" in compare_likelihoods(one, replace(one, nats=-13.0, grid="8 steps"))[1]


def test_the_better_of_three_reports_is_named_by_its_own_letter():
    one = Likelihood("bound", "Bound", "64 steps", -10.0, 0.5, 100)
    assert compare_likelihoods(one, replace(one, nats=-7.0), letters=("A", "C")) == ("C", "C is better")


@given(st.lists(st.floats(-100, 100), min_size=20, max_size=20))
def test_likelihoods_of_the_same_rows_are_compared_row_by_row(rows):
    """A model that is better by 1 +- 0.5 nats on every row is better, however different the rows are."""
    one = Likelihood("bound", "Bound", "64 steps", sum(rows) / 20, 30.0, 20, each=tuple(rows))
    better = [row + 1 + 0.5 * (-1) ** n for n, row in enumerate(rows)]
    other = replace(one, nats=sum(better) / 20, each=tuple(better))
    assert compare_likelihoods(one, other)[0] == "B"
    assert compare_likelihoods(other, one)[0] == "A"
    mixed = [row + (-1) ** n for n, row in enumerate(rows)]
    assert compare_likelihoods(one, replace(one, nats=sum(mixed) / 20, each=tuple(mixed)))[0] is None
    assert compare_likelihoods(one, replace(other, each=()))[0] is None
