"""The first lines of a report: what was found in plain words, and what would help most."""

from __future__ import annotations

import pytest

from ornstein.evaluation.results import Interval, Measure
from ornstein.evaluation.wording import advice
from reports import alike, report, words


@pytest.mark.parametrize(("auc", "texture", "said"), [
    (0.999, 0.5, "almost every time"), (0.64, 0.98, "almost every time"), (0.9, 0.7, "most of the time"),
    (0.75, 0.5, "can often tell"), (0.62, 0.5, "can sometimes tell"), (0.56, 0.5, "only slightly more often")])
def test_the_verdict_goes_by_the_classifier_that_tells_more(auc, texture, said):
    """Grain that anyone sees is not called a slight difference because one classifier does not see it."""
    floor = Interval(0.5, None, 0.48, 0.52)
    one = report()
    one.measures = [Measure(key, key, "", Interval(value, None, value - 0.01, value + 0.01), floor, 0.5, 1000, 1000)
                    for key, value in (("auc", auc), ("texture", texture))]
    assert said in one.verdict[0]
    often = min(round(100 * max(auc, texture)), 99)
    assert f"{'more than ' * (auc > 0.995)}{often} times out of 100" in one.verdict[1]


def test_what_would_help_most_is_a_command_where_the_run_is_known():
    one = words()
    assert advice(one) is None
    one.model |= {"run": "runs/my pictures", "settings": {"images": 1000, "mirror": False}, "held_out": 1.0,
                  "gap": 0.01}
    longer, command = advice(one)
    assert "longer" in longer
    assert command == "ornstein train --from 'runs/my pictures' --images 3000 --out 'runs/my pictures-longer'"
    one.model["gap"] = 0.3  # memorizing is not cured by more of the same
    assert "more pictures" in advice(one)[0]
    assert "--set mirror=true" in advice(one)[1]
    good = alike()
    good.model |= one.model | {"gap": 0.01}
    assert advice(good)[1].startswith("ornstein tune")
