"""What a minute of training on the digits must reach; the figures come from benchmarks/digits.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

import ornstein as orn
from ornstein.evaluation.classifier import forest_auc
from ornstein.evaluation.distances import frechet, nearest


@pytest.mark.slow
def test_one_minute_makes_digits_that_are_hard_to_tell_from_real_ones():
    training, held = orn.load_data("digits").split()
    model = orn.Trainer("digits", minutes=1).fit()
    labels = torch.arange(10).repeat_interleave(1000)
    drawn = model.data.decode(orn.sample(model, 10_000, condition=labels, nfe=20))
    judge = SVC(gamma=0.001, C=10).fit(training.values.reshape(1500, -1), training.labels)
    assert (judge.predict(drawn.reshape(10_000, -1)) == labels.numpy()).mean() >= 0.99
    assert frechet(held.values, drawn) <= 1.05 * frechet(held.values, training.values)
    assert forest_auc(training.values, drawn[::10]) <= 0.68
    apart = [float(np.median(nearest(some, training.values))) for some in (drawn[::10], held.values)]
    assert apart[0] >= 0.85 * apart[1]
