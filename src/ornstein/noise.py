"""Random numbers as a pure function of (seed, stream, index, step), the same on every device and in any batch.

Noise is Philox 4x32-10 (Salmon et al. 2011): ten rounds of two multiplications turn four words that say which numbers
are wanted into four random ones. The seed is its key; the words are

    place in the sample, in blocks of four numbers | index | step mod 2^32 | stream + 2^8 (step div 2^32)

so that no two places share a word in any batch, block or number of processes. Box and Muller (1958) make two normals of
two words w and w', sqrt(-2 log u) (cos a, sin a) with u = (w + 1/2) / 2^32 and a = 2 pi w' / 2^32, w' read with its
sign. They end at sqrt(66 log 2) = 6.76, beyond which lie 1.4e-11 of the normal law. Integers are the same bits on
every device; the normals agree to rounding, and on one device are the same bits in any batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.arguments import require_int

__all__ = ["STREAMS", "VERSION", "generator", "normal", "per_sample"]

VERSION = 2  # of the numbers: raise it when a seed gives others; 1 was numpy's, a generator for each sample and step
MOST_SEED, MOST_INDEX, MOST_STEP = 2**64 - 1, 2**32 - 1, 2**56 - 1
# Each purpose has its own stream, so that adding a draw in one place changes nothing elsewhere. Never renumber.
STREAMS = {"order": 0, "train": 1, "held_out": 2, "start": 3, "sample": 4, "walk": 5, "exact": 6, "weights": 7,
           "bound": 8, "probe": 9, "dequantise": 10, "levels": 11, "evaluate": 12, "tune": 13, "edit": 14}

WORD = 2**32 - 1
TIMES, PLUS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)  # the multipliers and the steps of the key
FEW, CHUNK = 256, 1 << 15  # blocks that are quickest as one whole number; and of which the cache of a core holds all


def generator(seed: int, stream: str, index: int = 0, step: int = 0) -> np.random.Generator:
    """NumPy's generator for one purpose, place and time: orders, choices and probes, which are made on the host.

    Args:
        seed: any integer from 0 to 2^64 - 1.
        stream: a name of `STREAMS`.
        index: which of several draws, >= 0.
        step: which step of a chain or of a training, >= 0.

    Raises:
        ValueError: the seed is no whole number, or outside its range.
    """
    seed = require_int("seed", seed, 0, MOST_SEED)
    # A list of Python integers becomes float64 from 2^63 on, where neighbouring seeds would be one.
    key = np.array([seed, STREAMS[stream]], dtype=np.uint64)
    # The two low words of the counter belong to the draws themselves: 2^128 numbers each.
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, step]))


def normal(seed: int, stream: str, index: int, step: int, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
    """Standard normal numbers of `shape` for one (seed, stream, index, step); more begin with the same ones.

    They have the dtype and the device of `like`, and are float64 on the CPU without it; the rest is as in `per_sample`.
    """
    like = torch.empty(0, dtype=torch.float64, device="cpu") if like is None else like
    return per_sample(seed, stream, range(index, index + 1), step, like.new_empty(1, *shape))[0]


def per_sample(seed: int, stream: str, indices: range, step: int, like: Tensor) -> Tensor:
    """Standard normal noise of which each sample's is its own, whatever batch the sample is in.

    Args:
        seed: of the whole draw, 0 to 2^64 - 1.
        stream: a name of `STREAMS`.
        indices: the number of each row's sample in the whole draw, as many as rows in `like`, each below 2^32.
        step: the step of the chain, 0 to 2^56 - 1.
        like: (B, ...), gives shape, dtype and device of the result.

    Returns:
        (B, ...) the same picture in every precision and on every device, to rounding.

    Raises:
        ValueError: a number outside its range, or no whole number.
    """
    if like.device.type == "mps":  # which has no float64
        return per_sample(seed, stream, indices, step, torch.empty_like(like, device="cpu")).to(like.device)
    seed, step = require_int("seed", seed, 0, MOST_SEED), require_int("step", step, 0, MOST_STEP)
    for index in (*indices[:1], *indices[-1:]):
        require_int("index", index, 0, MOST_INDEX)
    place = step & WORD, STREAMS[stream] | step >> 32 << 8
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    rows, size = len(indices), math.prod(like.shape[1:])
    blocks, most = -(-size // 4), CHUNK if _on_host(like.device) else 2**62
    if rows * blocks <= most:  # every device but a CPU has room for all at once
        values = _normals(*_words(seed, indices, range(blocks), place, like.device), exact)[:, :size]
        return values.reshape(like.shape).to(like.dtype)
    noise, high, wide = like.new_empty(rows, size), max(1, most // blocks), min(blocks, most)
    for row, block in itertools.product(range(0, rows, high), range(0, blocks, wide)):
        part = noise[row:row + high, 4 * block:4 * (block + wide)]
        words = _words(seed, indices[row:row + high], range(block, min(block + wide, blocks)), place, like.device)
        part.copy_(_normals(*words, exact)[:, :part.shape[1]])
    return noise.view(like.shape)


def _on_host(device: torch.device) -> bool:
    """Whether NumPy, whose calls cost least and whose multiplication is faster, does the integers."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def _words(seed: int, indices: range, blocks: range, place: tuple[int, int],
           device: torch.device) -> tuple[Tensor, Tensor]:
    """The words of some samples' blocks, two (rows, blocks, 2) int64: those of the radius and those of the angle."""
    if not _on_host(device):
        block = torch.arange(blocks.start, blocks.stop, device=device)
        index = torch.arange(indices.start, indices.stop, indices.step, device=device)[:, None]
        rest = (torch.full((1, 1), word, dtype=torch.int64, device=device) for word in place)
        a, b, c, d = _philox([block, index, *rest], seed)
        return torch.stack([a, c], -1), torch.stack([b, d], -1)
    block = np.arange(blocks.start, blocks.stop, dtype=np.uint64)
    index = np.arange(indices.start, indices.stop, indices.step, dtype=np.uint64)[:, None]
    words = np.empty((2, len(index), len(block), 2), dtype=np.uint64)
    if words.size <= 4 * FEW:
        # One long number with 64 bits a block: a call of NumPy costs more than all of these numbers' arithmetic.
        size = 2 * words.size
        each = ((1 << 8 * size) - 1) // (2**64 - 1)
        long = (int.from_bytes(np.broadcast_to(part, words.shape[1:3]).tobytes(), "little") for part in (block, index))
        four = _philox([*long, *(word * each for word in place)], seed, each)
        text = b"".join(word.to_bytes(size, "little") for word in four)
        four = np.frombuffer(text, np.uint64).reshape(4, len(index), len(block))
    else:
        four = _philox([block, index, *(np.full((1, 1), word, dtype=np.uint64) for word in place)], seed)
    for number, word in enumerate(four):
        words[number % 2, ..., number // 2] = word
    words = words.view(np.int64)
    return torch.from_numpy(words[0]), torch.from_numpy(words[1])


def _philox(counter: Sequence[Any], seed: int, each: int = 1) -> Sequence[Any]:
    """Philox 4x32-10 of words in 64 bits, in arrays, in tensors, or many in one whole number with `each` of ones.

    The first and the third array or tensor are written over.
    """
    (a, b, c, d), mask, keys = counter, WORD * each, (seed & WORD, seed >> 32)
    for _ in range(10):
        a *= TIMES[0]
        c *= TIMES[1]
        # Of b and d the low halves count; what stands above goes with the mask, and so does a sign that was shifted in.
        left, right = c >> 32 ^ b, a >> 32 ^ d
        left ^= keys[0] * each
        right ^= keys[1] * each
        left &= mask
        right &= mask
        a, b, c, d = left, c, right, a
        keys = (keys[0] + PLUS[0]) & WORD, (keys[1] + PLUS[1]) & WORD
    return a, b & mask, c, d & mask


def _normals(radius: Tensor, angle: Tensor, dtype: torch.dtype) -> Tensor:
    """Box and Muller of words (rows, blocks, 2) of each kind: (rows, 4 blocks) float32 or float64."""
    # The logarithm in float64: near u = 1 float32 would leave a few of the smallest radii wrong by more than rounding.
    r = radius.double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).to(dtype).sqrt_()
    a = angle.to(torch.int32).to(dtype).mul_(2 * math.pi / 2**32)
    x, y = a.cos().mul_(r), a.sin_().mul_(r)
    # Complex numbers are pairs already, and twice as fast to make as a stack; only the compiler knows none.
    pairs = torch.stack((x, y), -1) if torch.compiler.is_compiling() else torch.view_as_real(torch.complex(x, y))
    return pairs.flatten(1)
