"""Evidence of copying: whether samples are nearer to training pictures than unseen pictures are."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ornstein.data.dataset import Dataset, chunks
from ornstein.data.spec import DataSpec
from ornstein.evaluation.features.space import POOLS, draw_rows
from ornstein.evaluation.results import Memorisation, Pair

__all__ = [
    "MIN_ROWS",
    "NeighbourSearch",
    "comparison_count",
    "duplicates",
    "memorisation",
    "near_p_value",
    "repeated_share",
    "row_digests",
]

MIN_ROWS = 20  # samples, and held-out rows that do not equal a training row
LEVEL = 0.01  # largest rate of false alarms
BELOW_THRESHOLD = 0.02  # share of the held-out ratios; about 0.3 % of CIFAR-10 are natural twins
NEIGHBOURS = 10  # next nearest training rows, whose distance the nearest one is compared with
MAX_SAMPLES, MAX_TRAINING = 2000, 100_000  # samples or held-out rows, and training rows, that are searched
SIDES = {1: 64, 2: 16, 3: 8}  # largest sides of the grids that are compared, by rank; pictures are halved once more
COARSE = 8  # side of pictures when compared: at 16 no planted copy was found better, and noisy ones worse
VALUES = 64  # principal components that are compared
CROPS = (0.95, 0.85, 0.75)  # relative sides of the crops of training pictures, each at nine positions
PAIRS = 8


def memorisation(samples: Tensor | Dataset, training: Dataset, held: Dataset, *, seed: int = 0) -> Memorisation:
    """Return the evidence that samples, (N, *shape) or a set of them, are exact or slightly changed copies of training
    rows.

    ratio = distance to the nearest training row / mean distance to the next ten   (after Carlini et al. 2023)

    is computed for each sample and each held-out row. A sample is near if its ratio is below the m-th smallest held-out
    one, m = 2 % of those rows and at least 3. If samples and held-out rows are exchangeable, that is if the model is as
    good as the data and copies nothing, the number of near samples has a negative hypergeometric distribution whatever
    the data are, which gives the p-value (`near_p_value`). Exact copies would make the threshold 0 where the data
    themselves have some: they are set apart on both sides and tested by the hypergeometric distribution (Fisher's exact
    test), and the smaller p-value is doubled. If there are none in samples and held-out rows, only the first test is
    made.

    Pictures are compared at 8 x 8 pixels, with the training pictures as they are, flipped, and cropped at nine
    positions to 95, 85 and 75 % of their sides, flipped or not; other arrays only as they are, pooled. More than 64
    values become 64 principal components. Equal training rows count once. At most 2,000 samples and held-out rows and
    100,000 training rows are used, drawn at random.
    """
    spec = training.spec
    rng = np.random.default_rng(seed)
    drawn = draw_rows(np.arange(len(samples)), MAX_SAMPLES, rng)
    x = samples.batch(drawn)[0] if isinstance(samples, Dataset) else samples[torch.from_numpy(drawn)]
    _check(x if isinstance(samples, Dataset) else samples, held, spec)
    # On the levels of the data, like the held-out rows; otherwise rounding alone could tell the two apart.
    x = spec.on_levels(x.detach().cpu().float())
    unseen = held.batch(draw_rows(np.arange(len(held)), MAX_SAMPLES, rng))[0]

    first_row = dict[bytes, int]()
    # Encoded and decoded like samples, so that both are rounded in the same way.
    for row, digest in enumerate(digest for chunk in chunks(training.values)
                                 for digest in _decoded_digests(spec.encode(chunk), spec)):
        first_row.setdefault(digest, row)
    source = np.array([first_row.get(digest, -1) for digest in _decoded_digests(x, spec)])
    exact, twins = source >= 0, np.array([digest in first_row for digest in _decoded_digests(unseen, spec)])
    unseen = unseen[torch.from_numpy(~twins)]
    if len(unseen) < MIN_ROWS:
        raise ValueError(f"held has {len(unseen)} rows that do not equal a training row; at least {MIN_ROWS} are "
                         "needed")
    if len(first_row) < NEIGHBOURS + 2:
        raise ValueError(f"training has {len(first_row)} different rows; at least {NEIGHBOURS + 2} are needed")

    search = NeighbourSearch(training, draw_rows(np.array(list(first_row.values())), MAX_TRAINING, rng), seed)
    distance, rows = search(torch.cat([x, unseen]))
    nearest = rows[:, 0]
    next_mean = distance[:, 1:].mean(1)
    # Where all distances are 0 the ratio is 1, which is no evidence.
    ratio = np.divide(distance[:, 0], next_mean, out=np.ones(len(distance)), where=next_mean > 0)
    ratio_samples, ratio_held = ratio[:len(x)], ratio[len(x):]
    ratio_samples[exact], nearest[:len(x)][exact] = 0.0, source[exact]
    closest = distance[:, 0]
    closest[:len(x)][exact] = 0.0

    rank = _threshold_rank(len(unseen))
    threshold = float(np.sort(ratio_held)[rank - 1])
    near = int((ratio_samples[~exact] < threshold).sum())
    p_value, false_alarms = _test(near, int(exact.sum()), int(twins.sum()), len(x), len(unseen))
    expected = rank / (len(unseen) + 1) * (~exact).mean() + twins.mean()
    order = np.argsort(ratio_samples, kind="stable")[:PAIRS]
    return Memorisation(
        share=(near + int(exact.sum())) / len(x), expected=float(expected), threshold=threshold, p_value=p_value,
        false_alarms=false_alarms, copies=p_value <= LEVEL, exact=float(exact.mean()),
        distance=float(np.median(closest[:len(x)]) / max(np.median(closest[len(x):]), 1e-12)),
        typical=float(np.median(ratio_held)),
        pairs=tuple(Pair(int(drawn[i]), int(nearest[i]), float(ratio_samples[i]), how,
                         "" if training.names is None else training.names[nearest[i]])
                    for i, how in zip(order, search.nearest_change(x[order], nearest[order])[0], strict=True)))


def comparison_count(training: Dataset, rows: int) -> int:
    """The number of comparisons of `rows` rows with training rows in each of their changes."""
    changes = 2 * (1 + 9 * len(CROPS)) if training.spec.kind == "picture" else 1
    return min(rows, 2 * MAX_SAMPLES) * min(len(training), MAX_TRAINING) * changes


def duplicates(training: Dataset, held: Dataset) -> np.ndarray:
    """Return which held-out rows equal a training row to the last bit, whatever types they are stored in."""
    seen = set(row_digests(training))
    return np.array([digest in seen for digest in row_digests(held)], dtype=bool)


def repeated_share(data: Dataset) -> float:
    """Return the share of rows that another row of the set equals to the last bit."""
    counts = Counter(row_digests(data))
    return sum(count for count in counts.values() if count > 1) / len(data)


def near_p_value(near: int, samples: int, held: int, rank: int) -> float:
    """Return the probability that at least `near` samples lie below the rank-th smallest held-out row if all are
    exchangeable.

    P(X >= k) = P(H >= k), H ~ Hypergeometric(N + M, N, k + m - 1)

    for N samples, M held-out rows and rank m: X >= k means that k of the k + m - 1 smallest are samples. X has a
    negative hypergeometric distribution. Ties between the two only make X smaller.
    """
    from scipy.stats import hypergeom

    return 1.0 if near == 0 else float(hypergeom.sf(near - 1, samples + held, samples, near + rank - 1))


def _check(samples: Tensor, held: Dataset, spec: DataSpec) -> None:
    if tuple(samples.shape[1:]) != spec.shape or held.spec.shape != spec.shape:
        raise ValueError(f"samples have shape {tuple(samples.shape)} and held-out rows {held.spec.shape}; the training "
                         f"rows have {spec.shape}, they must agree")
    for name, count in (("samples", len(samples)), ("held", len(held))):
        if count < MIN_ROWS:
            raise ValueError(f"{name} has {count} rows; at least {MIN_ROWS} are needed")
    if lost := int((~samples.isfinite()).sum()):
        raise ValueError(f"samples hold {lost} values that are not finite; every value must be a finite number")


def row_digests(data: Dataset) -> Iterator[bytes]:
    """A hash of each row's values, the same for 5 and 5.0, 0.0 and -0.0."""
    return (_hash(row) for chunk in chunks(data.values) for row in chunk.astype(np.float64) + 0)


def _hash(row: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest()


def _decoded_digests(x: Tensor, spec: DataSpec) -> Iterator[bytes]:
    """A hash of each row as decoded for the user; + 0 makes -0.0 equal to 0.0."""
    return (_hash(row) for row in spec.decode(x) + 0)


def _threshold_rank(held: int) -> int:
    return max(3, round(BELOW_THRESHOLD * held))


def _test(near: int, exact: int, twins: int, samples: int, held: int) -> tuple[float, float]:
    """The p-value, and the rate of false alarms: LEVEL or less, since counts are whole numbers.

    Of the samples, `exact` are exact copies, and `near` others are below the threshold; of the held-out rows, `twins`
    equal training rows and `held` do not.
    """
    from scipy.stats import hypergeom

    if not exact + twins:
        return near_p_value(near, samples, held, _threshold_rank(held)), _false_alarms(LEVEL, samples, held)
    # Given the total number of exact copies, their number among the samples is hypergeometric; given that, the other
    # rows are exchangeable.
    counts = samples + held + twins, samples, exact + twins
    p_exact = float(hypergeom.sf(exact - 1, *counts))
    p_near = near_p_value(near, samples - exact, held, _threshold_rank(held))
    false_alarms = 0.0
    for count in range(max(0, exact - held), min(samples, exact + twins) + 1):
        weight = float(hypergeom.pmf(count, *counts))
        if weight > LEVEL * 1e-9:
            alarm = 2 * hypergeom.sf(count - 1, *counts) <= LEVEL
            false_alarms += weight * (1.0 if alarm else _false_alarms(LEVEL / 2, samples - count, held + count - exact))
    return min(1.0, 2 * min(p_exact, p_near)), false_alarms


def _false_alarms(level: float, samples: int, held: int) -> float:
    """The largest possible p-value of near samples that does not exceed a level; 0 if there is none."""
    rank = _threshold_rank(held)
    if rank > held or near_p_value(samples, samples, held, rank) > level:
        return 0.0
    low, high = 0, samples  # near_p_value(low) > level >= near_p_value(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if near_p_value(middle, samples, held, rank) <= level else (middle, high)
    return near_p_value(high, samples, held, rank)


class NeighbourSearch:
    """Finds the `count` nearest training rows among `rows`, each in the change (flip, crop) that comes nearest."""

    def __init__(self, training: Dataset, rows: np.ndarray, seed: int, count: int = NEIGHBOURS + 1) -> None:
        self.training, self.rows, self.count = training, rows, count
        spec = training.spec
        fitting = _pooled(training.batch(draw_rows(rows, 4096, np.random.default_rng(seed)))[0])
        channels, sides = spec.shape[0], [min(side, SIDES[len(spec.shape) - 1]) for side in spec.shape[1:]]
        if spec.kind == "picture":
            self.names, changes = _changes(channels, sides)
        else:
            self.names, changes = ["as it is"], [torch.eye(fitting.shape[1], dtype=torch.float32, device="cpu")]
        self.values = changes[0].shape[1]  # that a distance is taken over, before PCA
        self.mean, self.matrices = _projections(fitting, changes, seed)

    def __call__(self, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows (Q, count) of (Q, *shape) samples, after their ascending distances (Q, count)."""
        query = (_pooled(x) - self.mean) @ self.matrices[0]
        left = torch.cat([-2 * query, query.new_ones(len(query), 1)], 1)
        count = self.count
        least, row = query.new_full((len(x), count), math.inf), torch.full((len(x), count), -1, device="cpu")
        # |q - z|^2 - |q|^2 is a single product of (-2 q, 1) and (z, |z|^2). Blocks fit into the cache of one core.
        for start in range(0, len(self.rows), 1024):
            block = self.rows[start:start + 1024]
            z = self._changed(block)
            right = torch.cat([z, z.square().sum(2, keepdim=True)], 2).transpose(1, 2).contiguous()
            for begin in range(0, len(x), 256):
                part = slice(begin, begin + 256)
                best = left[part] @ right[0]
                for changed in right[1:]:
                    torch.minimum(best, left[part] @ changed, out=best)
                near = best.topk(min(count, len(block)), largest=False)
                values = torch.cat([least[part], near.values], 1)
                candidates = torch.cat([row[part], torch.from_numpy(block)[near.indices]], 1)
                nearest = values.topk(count, largest=False)
                least[part], row[part] = nearest.values, candidates.gather(1, nearest.indices)
        distance = (least + query.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
        return distance.double().numpy(), row.numpy()

    def nearest_change(self, x: Tensor, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """The change of each training row (Q,) that comes nearest to each of (Q, *shape) samples, and its distance."""
        query = (_pooled(x) - self.mean) @ self.matrices[0]
        nearest = (self._changed(rows) - query).square().sum(2).min(0)
        return [self.names[index] for index in nearest.indices], nearest.values.sqrt().double().numpy()

    def _changed(self, rows: np.ndarray) -> Tensor:
        """(changes, R, values): training rows in every change."""
        z = _pooled(self.training.batch(rows)[0])
        return z @ self.matrices - self.mean @ self.matrices[0]


def _pooled(x: Tensor) -> Tensor:
    """Pool (N, *shape) to (N, values), by means over the cells of a coarse grid."""
    if x.ndim == 2:
        return x
    return POOLS[x.ndim - 2](x, [min(side, SIDES[x.ndim - 2]) for side in x.shape[2:]]).flatten(1)


def _projections(rows: Tensor, changes: list[Tensor], seed: int) -> tuple[Tensor, Tensor]:
    """The mean of pooled rows, and matrices (changes, values, components) that map pooled rows to each change."""
    if changes[0].shape[1] > VALUES:
        from sklearn.decomposition import PCA

        unchanged = rows @ changes[0]
        pca = PCA(min(VALUES, len(unchanged) - 1), svd_solver="randomized", random_state=seed % 2**32)
        axes = torch.from_numpy(pca.fit(unchanged.numpy()).components_.T.copy()).float()
        changes = [change @ axes for change in changes]
    return rows.mean(0), torch.stack(changes)


def _changes(channels: int, sides: list[int]) -> tuple[list[str], list[Tensor]]:
    """Names of the changes of a training picture, and the matrices (values, coarse values) that apply them."""
    windows = [("as it is", 1.0, 0.0, 0.0)]
    windows += [("cropped", *window) for window in product(CROPS, (0.0, 0.5, 1.0), (0.0, 0.5, 1.0))]
    names, matrices = list[str](), list[Tensor]()
    for name, side, down, right in windows:
        rows, columns = _resize(sides[0], side, down), _resize(sides[1], side, right)
        for flipped in (False, True):
            plane = torch.kron(rows, columns.flip(0) if flipped else columns)
            grid = torch.kron(torch.eye(channels, dtype=torch.float32, device="cpu"), plane)
            names.append(("flipped" if name == "as it is" else f"{name} and flipped") if flipped else name)
            matrices.append(grid.T.contiguous())
    return names, matrices


def _resize(side: int, share: float, position: float) -> Tensor:
    """The matrix (coarse, side) that bilinearly resizes a window of a share of the side, from position 0 (start) to 1
    (end)."""
    coarse = min(side, COARSE)
    step = side * share / coarse
    cell, pixel = (torch.arange(count, dtype=torch.float32, device="cpu") + 0.5 for count in (coarse, side))
    centre = side * (1 - share) * position + step * cell
    weight = (1 - (pixel - centre[:, None]).abs() / max(step, 1.0)).clamp(min=0)
    return weight / weight.sum(1, keepdim=True)
