"""Distances between a set of real samples and a set of generated ones."""

from __future__ import annotations

import numpy as np

__all__ = ["frechet", "nearest", "real_or_generated"]


def _rows(name: str, values: np.ndarray, least: int) -> np.ndarray:
    if len(values) < least:
        raise ValueError(f"{name} holds {len(values)} samples; at least {least} are needed")
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} holds values that are not finite; every value must be a finite number")
    return rows


def frechet(real: np.ndarray, generated: np.ndarray) -> float:
    """Fréchet distance between the Gaussians fitted to two sets, on the values as they are.

    |mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))   (Dowson & Landau 1982)

    It is not FID: FID is this distance on features of an Inception network.

    Args:
        real: (N, ...) samples, N >= 2, flattened to rows.
        generated: (M, ...) samples with as many values each, M >= 2.

    Returns:
        The squared distance, in squared units of the values, >= 0 up to rounding.

    Raises:
        ValueError: fewer than two samples, values that are not finite, or sizes that differ.
    """
    a, b = _rows("real", real, 2), _rows("generated", generated, 2)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"generated has {b.shape[1]} values a sample; real has {a.shape[1]}, they must agree")
    cov_a, cov_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    # tr (cov_a cov_b)^(1/2) is the sum of the singular values of cov_a^(1/2) cov_b^(1/2): no complex square root.
    overlap = np.linalg.svd(_root(cov_a) @ _root(cov_b), compute_uv=False).sum()
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap)


def _root(covariance: np.ndarray) -> np.ndarray:
    value, vector = np.linalg.eigh(covariance)
    return (vector * np.sqrt(value.clip(0))) @ vector.T


def real_or_generated(real: np.ndarray, generated: np.ndarray, *, trees: int = 200, folds: int = 5,
                      seed: int = 0) -> float:
    """Area under the curve of a random forest that tells real from generated (classifier two-sample test).

    Out-of-fold votes (Lopez-Paz & Oquab 2017, with a forest): 0.5 is indistinguishable, 1 is told apart always.

    Args:
        real: (N, ...) samples, flattened to rows.
        generated: (M, ...) samples with as many values each.
        trees: trees in the forest, >= 1.
        folds: folds of the cross-validation, at least 2 and at most the smaller set's size.
        seed: of the folds and the trees.

    Returns:
        The area under the receiver operating characteristic, in [0, 1].

    Raises:
        ValueError: fewer samples than folds, or values that are not finite.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rows = np.concatenate([_rows("real", real, folds), _rows("generated", generated, folds)])
    label = np.repeat([0, 1], [len(real), len(generated)])
    forest = RandomForestClassifier(trees, random_state=seed, n_jobs=-1)
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    vote = cross_val_predict(forest, rows, label, cv=splits, method="predict_proba")[:, 1]
    return float(roc_auc_score(label, vote))


def nearest(samples: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Distance from each sample to the reference nearest to it.

    Args:
        samples: (N, ...), flattened to rows.
        references: (M, ...) with as many values each.

    Returns:
        (N,) Euclidean distances, in units of the values.

    Raises:
        ValueError: an empty set, or values that are not finite.
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1).fit(_rows("references", references, 1))
    return index.kneighbors(_rows("samples", samples, 1))[0][:, 0]
