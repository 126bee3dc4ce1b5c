"""Evidence that a model copies: are its samples nearer to training pictures than unseen pictures are?"""

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

__all__ = ["LEAST", "Search", "chance", "compared_with", "duplicates", "memorisation", "repeated",
           "row_digests"]

LEAST = 20  # samples, and held-out rows that are no copies of training rows
LEVEL = 0.01  # of false alarms, at most
RANKED = 0.02  # of the held-out ratios lie below the threshold; natural twins are some 0.3 % of CIFAR-10
NEIGHBOURS = 10  # further training rows that the nearest one is compared with
MOST, MOST_ROWS = 2000, 100_000  # samples or held-out rows, and training rows, that are looked at
SIDES = {1: 64, 2: 16, 3: 8}  # of the grids that are compared, at most, by rank; pictures are halved once more
COARSE = 8  # side of pictures when compared: at 16 nothing planted was found better, and noise worse
VALUES = 64  # principal components that are compared
CROPS = (0.95, 0.85, 0.75)  # sides of the crops of training pictures that are looked at, each at nine places
PAIRS = 8


def memorisation(samples: Tensor | Dataset, training: Dataset, held: Dataset, *, seed: int = 0) -> Memorisation:
    """Return the evidence that samples, (N, *shape) or a set of them, are copies of training rows, changed a little or
    not at all.

    ratio = distance to the nearest training row / mean distance to the ten next   (after Carlini et al. 2023)

    of each sample, and of each held-out row. A sample is near when its ratio is below the m-th smallest held-out one, m
    = 2 % of those rows and at least 3. If samples and held-out rows are exchangeable, that is if the model is as good
    as the data and copies nothing, the number of near samples has a negative hypergeometric law whatever the data are,
    which gives the p-value (`chance`). Copies to the last level would make the threshold 0 where the data have some of
    their own: they are set apart on both sides and counted by the hypergeometric law (Fisher's exact test), and the
    smaller p-value is doubled. Without any of them in samples and held-out rows there is only the first test.

    Pictures are compared at 8 x 8 pixels, to the training pictures as they are, flipped, and cropped at nine places to
    95, 85 and 75 % of their sides, flipped or not; other arrays only as they are, pooled. More than 64 values become 64
    principal components. Training rows that are equal count once. Of more than 2,000 samples or held-out rows, or
    100,000 training rows, as many are drawn.
    """
    spec = training.spec
    draw = np.random.default_rng(seed)
    picked = draw_rows(np.arange(len(samples)), MOST, draw)
    some = samples.batch(picked)[0] if isinstance(samples, Dataset) else samples[torch.from_numpy(picked)]
    _check(some if isinstance(samples, Dataset) else samples, held, spec)
    # On the data's own levels, as the held-out rows are; else the rounding alone could tell the two apart.
    x = some.detach().cpu().float()
    x = spec.encode(spec.decode(x)) if spec.rounds else x
    unseen = held.batch(draw_rows(np.arange(len(held)), MOST, draw))[0]

    first = dict[bytes, int]()
    # Encoded and decoded, as samples are, so that rounding on the way is the same for both.
    for row, digest in enumerate(one for part in chunks(training.values) for one in _hashes(spec.encode(part), spec)):
        first.setdefault(digest, row)
    source = np.array([first.get(digest, -1) for digest in _hashes(x, spec)])
    exact, twins = source >= 0, np.array([digest in first for digest in _hashes(unseen, spec)])
    unseen = unseen[torch.from_numpy(~twins)]
    if len(unseen) < LEAST:
        raise ValueError(f"held has {len(unseen)} rows that are no copies of training rows; at least {LEAST} are "
                         "needed")
    if len(first) < NEIGHBOURS + 2:
        raise ValueError(f"training has {len(first)} different rows; at least {NEIGHBOURS + 2} are needed")

    search = Search(training, draw_rows(np.array(list(first.values())), MOST_ROWS, draw), seed)
    distance, rows = search(torch.cat([x, unseen]))
    nearest = rows[:, 0]
    further = distance[:, 1:].mean(1)
    # 1, which says nothing, where all are 0.
    ratio = np.divide(distance[:, 0], further, out=np.ones(len(distance)), where=further > 0)
    mine, other = ratio[:len(x)], ratio[len(x):]
    mine[exact], nearest[:len(x)][exact] = 0.0, source[exact]
    closest = distance[:, 0]
    closest[:len(x)][exact] = 0.0

    rank = _rank(len(unseen))
    threshold = float(np.sort(other)[rank - 1])
    near = int((mine[~exact] < threshold).sum())
    p_value, false_alarms = _judge(near, int(exact.sum()), int(twins.sum()), len(x), len(unseen))
    alike = near + int(exact.sum())
    usual = rank / (len(unseen) + 1) * (~exact).mean() + twins.mean()
    order = np.argsort(mine, kind="stable")[:PAIRS]
    return Memorisation(
        share=alike / len(x), expected=float(usual), threshold=threshold, p_value=p_value, false_alarms=false_alarms,
        copies=p_value <= LEVEL, exact=float(exact.mean()),
        distance=float(np.median(closest[:len(x)]) / max(np.median(closest[len(x):]), 1e-12)),
        typical=float(np.median(other)),
        pairs=tuple(Pair(int(picked[one]), int(nearest[one]), float(mine[one]), how,
                         "" if training.names is None else training.names[nearest[one]])
                    for one, how in zip(order, search.how(x[order], nearest[order])[0], strict=True)))


def compared_with(training: Dataset, rows: int) -> int:
    """How many pairs of so many rows and training rows, in each of their changes, are compared."""
    changes = 2 * (1 + 9 * len(CROPS)) if training.spec.kind == "picture" else 1
    return min(rows, 2 * MOST) * min(len(training), MOST_ROWS) * changes


def duplicates(training: Dataset, held: Dataset) -> np.ndarray:
    """Return which held-out rows have the values of a training row to the last bit, whatever type they are stored
    in."""
    seen = set(row_digests(training))
    return np.array([digest in seen for digest in row_digests(held)], dtype=bool)


def repeated(data: Dataset) -> float:
    """Return the share of rows that another row of the set equals to the last bit."""
    count = Counter(row_digests(data))
    return sum(times for times in count.values() if times > 1) / len(data)


def chance(near: int, samples: int, held: int, rank: int) -> float:
    """Return the chance that at least `near` samples lie below the rank-th smallest held-out row, all being
    exchangeable.

    P(X >= k) = P(H >= k), H ~ Hypergeometric(N + M, N, k + m - 1)

    for N samples, M held-out rows and rank m: X >= k says that k of the k + m - 1 smallest are samples. X has the
    negative hypergeometric law. Ties between the two only make X smaller.
    """
    from scipy.stats import hypergeom

    return 1.0 if near == 0 else float(hypergeom.sf(near - 1, samples + held, samples, near + rank - 1))


def _check(samples: Tensor, held: Dataset, spec: DataSpec) -> None:
    if tuple(samples.shape[1:]) != spec.shape or held.spec.shape != spec.shape:
        raise ValueError(f"samples have shape {tuple(samples.shape)} and held-out rows {held.spec.shape}; the training "
                         f"rows have {spec.shape}, they must agree")
    for name, count in (("samples", len(samples)), ("held", len(held))):
        if count < LEAST:
            raise ValueError(f"{name} has {count} rows; at least {LEAST} are needed")
    if lost := int((~samples.isfinite()).sum()):
        raise ValueError(f"samples hold {lost} values that are not finite; every value must be a finite number")


def row_digests(data: Dataset) -> Iterator[bytes]:
    """A hash of each row's values, the same for 5 and 5.0, 0.0 and -0.0."""
    return (_hash(row) for part in chunks(data.values) for row in part.astype(np.float64) + 0)


def _hash(row: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest()


def _hashes(x: Tensor, spec: DataSpec) -> Iterator[bytes]:
    """Of each row as the user would get it; + 0 makes one of the two zeros."""
    return (_hash(row) for row in spec.decode(x) + 0)


def _rank(held: int) -> int:
    return max(3, round(RANKED * held))


def _judge(near: int, exact: int, twins: int, samples: int, held: int) -> tuple[float, float]:
    """The p-value, and how often it would be low enough to speak of copies: LEVEL or less, since counts are whole.

    `near` samples are below the threshold and no exact copies, `exact` ones are; of the held-out rows `twins` are and
    `held` are not.
    """
    from scipy.stats import hypergeom

    if not exact + twins:
        return chance(near, samples, held, _rank(held)), _size(LEVEL, samples, held)
    # Given how many exact copies there are in both together, their number among the samples is hypergeometric; and
    # given that, the rest are exchangeable among themselves.
    facts = samples + held + twins, samples, exact + twins
    p_exact, p_near = float(hypergeom.sf(exact - 1, *facts)), chance(near, samples - exact, held, _rank(held))
    size = 0.0
    for count in range(max(0, exact - held), min(samples, exact + twins) + 1):
        weight = float(hypergeom.pmf(count, *facts))
        if weight > LEVEL * 1e-9:
            alarm = 2 * hypergeom.sf(count - 1, *facts) <= LEVEL
            size += weight * (1.0 if alarm else _size(LEVEL / 2, samples - count, held + count - exact))
    return min(1.0, 2 * min(p_exact, p_near)), size


def _size(level: float, samples: int, held: int) -> float:
    """The largest chance of so many near samples that is not above a level; 0 where all of them were not enough."""
    rank = _rank(held)
    if rank > held or chance(samples, samples, held, rank) > level:
        return 0.0
    low, high = 0, samples  # chance(low) > level >= chance(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle, samples, held, rank) <= level else (middle, high)
    return chance(high, samples, held, rank)


class Search:
    """The training rows nearest to others, each in the change that comes nearest; only some `rows` of the set are
    looked at."""

    def __init__(self, training: Dataset, rows: np.ndarray, seed: int, count: int = NEIGHBOURS + 1) -> None:
        self.training, self.rows, self.count = training, rows, count
        spec = training.spec
        some = _pooled(training.batch(draw_rows(rows, 4096, np.random.default_rng(seed)))[0])
        channels, sides = spec.shape[0], [min(side, SIDES[len(spec.shape) - 1]) for side in spec.shape[1:]]
        if spec.kind == "picture":
            self.names, changes = _changes(channels, sides)
        else:
            self.names, changes = ["as it is"], [torch.eye(some.shape[1], dtype=torch.float32, device="cpu")]
        self.values = changes[0].shape[1]  # whose squares a distance is the root of the sum of, but for what PCA leaves
        self.mean, self.matrices = _compared(some, changes, seed)

    def __call__(self, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """(Q, *shape) to the distances (Q, count), ascending, and the rows (Q, count) that they are of."""
        wanted = (_pooled(x) - self.mean) @ self.matrices[0]
        left = torch.cat([-2 * wanted, wanted.new_ones(len(wanted), 1)], 1)
        count = self.count
        least, row = wanted.new_full((len(x), count), math.inf), torch.full((len(x), count), -1, device="cpu")
        # |q - z|^2 - |q|^2 is one product of (-2 q, 1) and (z, |z|^2). Blocks that stay in the cache of one core.
        for start in range(0, len(self.rows), 1024):
            block = self.rows[start:start + 1024]
            z = self._changed(block)
            right = torch.cat([z, z.square().sum(2, keepdim=True)], 2).transpose(1, 2).contiguous()
            for begin in range(0, len(x), 256):
                part = slice(begin, begin + 256)
                best = left[part] @ right[0]
                for one in right[1:]:
                    torch.minimum(best, left[part] @ one, out=best)
                near = best.topk(min(count, len(block)), largest=False)
                values = torch.cat([least[part], near.values], 1)
                places = torch.cat([row[part], torch.from_numpy(block)[near.indices]], 1)
                kept = values.topk(count, largest=False)
                least[part], row[part] = kept.values, places.gather(1, kept.indices)
        distance = (least + wanted.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
        return distance.double().numpy(), row.numpy()

    def how(self, x: Tensor, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Which change of each training row (Q,) comes nearest to each of (Q, *shape), and the distances (Q,) of these.
        """
        wanted = (_pooled(x) - self.mean) @ self.matrices[0]
        nearest = (self._changed(rows) - wanted).square().sum(2).min(0)
        return [self.names[one] for one in nearest.indices], nearest.values.sqrt().double().numpy()

    def _changed(self, rows: np.ndarray) -> Tensor:
        """(V, R, values): training rows in every change."""
        z = _pooled(self.training.batch(rows)[0])
        return z @ self.matrices - self.mean @ self.matrices[0]


def _pooled(x: Tensor) -> Tensor:
    """(N, *shape) to (N, values), means over the cells of a grid with few places."""
    if x.ndim == 2:
        return x
    return POOLS[x.ndim - 2](x, [min(side, SIDES[x.ndim - 2]) for side in x.shape[2:]]).flatten(1)


def _compared(some: Tensor, changes: list[Tensor], seed: int) -> tuple[Tensor, Tensor]:
    """The mean of pooled rows, and (V, values, compared) that take pooled rows to each change of them."""
    if changes[0].shape[1] > VALUES:
        from sklearn.decomposition import PCA

        plain = some @ changes[0]
        fitted = PCA(min(VALUES, len(plain) - 1), svd_solver="randomized", random_state=seed % 2**32)
        axes = torch.from_numpy(fitted.fit(plain.numpy()).components_.T.copy()).float()
        changes = [change @ axes for change in changes]
    return some.mean(0), torch.stack(changes)


def _changes(channels: int, sides: list[int]) -> tuple[list[str], list[Tensor]]:
    """Names of what is done to a training picture, and the matrices (values, coarse values) that do it: all linear."""
    windows = [("as it is", 1.0, 0.0, 0.0)]
    windows += [("cropped", *window) for window in product(CROPS, (0.0, 0.5, 1.0), (0.0, 0.5, 1.0))]
    names, matrices = list[str](), list[Tensor]()
    for name, side, down, right in windows:
        rows, columns = _resize(sides[0], side, down), _resize(sides[1], side, right)
        for flipped in (False, True):
            over = columns.flip(0) if flipped else columns
            grid = torch.kron(torch.eye(channels, dtype=torch.float32, device="cpu"), torch.kron(rows, over))
            names.append(("flipped" if name == "as it is" else f"{name} and flipped") if flipped else name)
            matrices.append(grid.T.contiguous())
    return names, matrices


def _resize(side: int, share: float, place: float) -> Tensor:
    """(coarse, side): a window of a share of the side, resized bilinearly; place 0 is the start and 1 the end."""
    coarse = min(side, COARSE)
    step = side * share / coarse
    cell, pixel = (torch.arange(many, dtype=torch.float32, device="cpu") + 0.5 for many in (coarse, side))
    centre = side * (1 - share) * place + step * cell
    weight = (1 - (pixel - centre[:, None]).abs() / max(step, 1.0)).clamp(min=0)
    return weight / weight.sum(1, keepdim=True)
