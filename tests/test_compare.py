"""Samples of any program beside real ones: the figures of an evaluation, whatever the samples are read from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import ornstein as orn
from ornstein.evaluation.classifier import forest_auc_interval
from ornstein.evaluation.page import render
from ornstein.evaluation.wording import verdicts
from reports import report as report_of

pytestmark = pytest.mark.usefixtures("few_trees")
LAW = orn.ExactMixture(torch.tensor([0.6, 0.4]), torch.tensor([[-0.4, 0.1], [0.4, -0.2]]), torch.tensor([0.01, 0.02]),
                       orn.Cosine())
FEW = {"spaces": ["pixels"]}


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    """Intervals from fewer draws: what they are of is the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ornstein.evaluation.intervals.DRAWS", 4)
        yield


def scenes(count: int, seed: int, side: int = 8) -> np.ndarray:
    """(N, side, side, 3) uint8: a bright box on a dark slope."""
    draw = np.random.default_rng(seed)
    slope = np.arange(side)[None, :, None, None] * draw.integers(0, 9, (count, 1, 1, 1))
    x = draw.integers(0, 90, (count, 1, 1, 3)) + slope
    x = np.broadcast_to(x, (count, side, side, 3)).copy()
    for one, (top, left) in zip(x, draw.integers(0, side - 3, (count, 2)), strict=True):
        one[top:top + 3, left:left + 3] += draw.integers(60, 90, 3)
    return x.astype(np.uint8)


def save(folder, pictures: np.ndarray, stem: str = ""):
    folder.mkdir(exist_ok=True)
    for number, one in enumerate(pictures):
        Image.fromarray(one).save(folder / f"{stem}{number:04d}.png")
    return folder


def figures(report: orn.Report) -> list:
    return [one.as_dict() for one in report.measures]


@pytest.fixture(scope="module")
def real():
    return scenes(300, 0)


def test_the_figures_are_those_of_evaluate_bit_for_bit():
    """On the data, with themselves named as what was trained on, and on unseen rows with those that were."""
    data = orn.load_data(LAW.draw(310, seed=1).clamp(-1, 1))
    judged = orn.evaluate(LAW, data, count=60, likelihood=False, **FEW)
    x, (training, unseen) = orn.sample(LAW, 60), data.split()
    for real, known in ((data, data), (unseen.values, training.values)):
        found = orn.compare(real, x, trained_on=known, **FEW)
        assert figures(found) == figures(judged)
        assert found.memorisation == judged.memorisation


def test_real_pictures_that_nobody_was_trained_on_all_serve(real):
    """A third to compare with, one for the floors, the last for features; forests see all of them."""
    found = orn.compare(real, scenes(400, 1), **FEW)
    counts = {one.key: (one.real, one.generated) for one in found.measures}
    assert counts["frechet"] == counts["coverage"] == (100, 100)
    assert counts["auc"] == counts["texture"] == (300, 300)
    assert (found.data["training"], found.data["held_out"], found.known) == (200, 100, "real")
    assert "of the 300 real pictures, 100 are compared with the samples, 100 others with these" in found.notes[0]
    assert not [one.key for one in found.measures if one.differs]


def test_votes_do_not_depend_on_the_order_in_which_threads_add_them(monkeypatch):
    """Rows that are in both sets tie, and rounding must not break the tie."""
    monkeypatch.setattr("ornstein.evaluation.classifier.tree_workers", lambda _: 4)
    rows = np.random.default_rng(0).normal(size=(100, 3))
    assert len({forest_auc_interval(rows, rows[::-1], trees=30) for _ in range(3)}) == 1


def test_the_program_that_wrote_the_pictures_does_not_matter(real, tmp_path):
    """Files, numbers in 0..1 or -1..1, and grey ones as colours: the same pictures, the same figures."""
    made = scenes(60, 1)
    wanted = figures(orn.compare(real, made, **FEW))
    for other in (save(tmp_path / "made", made), made / 255.0, made.transpose(0, 3, 1, 2) / 127.5 - 1):
        assert figures(orn.compare(real, other, **FEW)) == wanted
    digits = orn.load_data("digits").values[:, 0]
    grey = save(tmp_path / "grey", np.round(digits[::20] * (255.0 / 16)).astype(np.uint8)[..., None].repeat(3, -1))
    assert figures(orn.compare("digits", grey, **FEW)) == figures(orn.compare("digits", digits[::20], **FEW))


def test_other_sizes_are_resized_to_the_smallest_and_it_is_said(real, tmp_path):
    large = save(tmp_path / "large", scenes(60, 1, 12))
    found = orn.compare(save(tmp_path / "real", real), large, **FEW)
    assert found.data["shape"] == [3, 8, 8]
    assert any("12 x 12 pixels were resized to 8 x 8, the size of real 'real', which is smaller" in note
               for note in found.notes)
    assert orn.compare(real, scenes(60, 1, 12), size=6, **FEW).data["shape"] == [3, 6, 6]


def test_pictures_that_are_in_both_sets_are_counted_and_named(real, tmp_path):
    made = save(tmp_path / "made", np.concatenate([scenes(57, 1), real[20:23]]), "m")
    found = orn.compare(save(tmp_path / "real", real), made, **FEW)
    assert found.drawn["also_real"] == 3
    assert any("3 of the 60 generated pictures are real ones too, to the last bit: m0057.png = 0020.png" in note
               for note in found.notes)
    assert "3 of these 60 pictures are in the real set too" in found.verdict[-1]
    same = orn.compare(tmp_path / "real", tmp_path / "real", **FEW)
    assert same.verdict == ["All of these 300 pictures are in the real set too, so this comparison says nothing "
                            "about a generator."]


def test_a_copy_can_be_found_again(real, tmp_path):
    """A flipped training picture among the samples comes first in the pairs, with the names of both files."""
    trained, made = real[100:], scenes(60, 1)
    made[31] = trained[150][:, ::-1]
    found = orn.compare(real[:100], save(tmp_path / "made", made, "m"),
                        trained_on=save(tmp_path / "trained", trained, "t"), **FEW)
    pair = found.memorisation.pairs[0]
    assert (pair.of, pair.name, pair.how) == ("m0031.png", "t0150.png", "flipped")
    assert "m0031.png" in render([found])


def test_sets_are_ranked_where_more_than_chance_is_shown(real, command, tmp_path):
    good, twin = scenes(120, 1), scenes(120, 2)
    bad = np.random.default_rng(0).integers(0, 255, (90, 8, 8, 3)).astype(np.uint8)
    for name, x in (("real", real), ("good", good), ("twin", twin), ("bad", bad)):
        np.save(tmp_path / f"{name}.npy", x)
    code, said, err = command("compare", "real.npy", "good.npy", "twin.npy", "bad.npy", "--out", "report", "--features",
                              "pixels")
    assert (code, err) == (0, "")
    kept = json.loads((tmp_path / "report/report.json").read_text())
    assert [one["name"] for one in kept["reports"]] == ["good", "twin", "bad"]
    assert kept["ranking"]["Told apart by a forest (AUC)"] == "A and B are better than C"
    assert kept["better"]["Told apart by a forest (AUC)"] is None
    assert "A is good, B is twin, C is bad" in said
    assert any("measured on at most 90 of each" in note for note in kept["reports"][0]["notes"])
    assert (tmp_path / "report/index.html").read_text().count("<figcaption>Samples of ") == 3


def test_the_best_of_three_is_named():
    """One better than both others, and one better than the last alone."""
    three = report_of("a"), report_of("b", 2.0), report_of("c", 4.0)
    found = {name: (who, said) for name, who, said in verdicts(*three)}
    assert found["Fréchet distance (random convolutions, 512 values)"] == (
        "A", "A is better than B and C; B is better than C")
    assert found["Fréchet distance (pixels)"] == (None, "no difference shown")




@pytest.mark.parametrize(("real", "made", "says"), [
    (scenes(3, 0), scenes(60, 1), "real 'array' has 3 pictures; a comparison needs at least 120"),
    (scenes(150, 0), scenes(3, 1), "generated 'array' has 3 pictures; a comparison needs at least 30"),
    (np.zeros((150, 4)) + np.arange(150)[:, None], np.ones((60, 3)), "they must agree"),
    (scenes(150, 0), np.full((60, 8, 8, 3), np.nan), "generated: array: has 11520 values that are not finite"),
])
def test_what_cannot_be_compared_is_refused_in_one_line(real, made, says):
    with pytest.raises(ValueError, match=says) as error:
        orn.compare(real, made, **FEW)
    assert "\n" not in str(error.value)


def test_mistakes_on_the_command_line(command, tmp_path, real):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").touch()
    np.save(tmp_path / "real.npy", real)
    for words, says in ((["real.npy"], "GENERATED is missing"), (["real.npy", "empty"], "is a picture"),
                        (["real.npy", "gone.npy"], "gone.npy"), (["real.npy", *["real.npy"] * 7], "from 1 to 6"),
                        (["real.npy", "real.npy", "--features", "pixel"], "did you mean 'pixels'?")):
        code, _, err = command("compare", *words, "--out", "r")
        assert (code, err.count("\n")) == (2, 1)
        assert says in err
        assert not (tmp_path / "r").exists()
