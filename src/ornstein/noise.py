"""Random numbers as a pure function of (seed, stream, index, step), the same on every device and in any batch.

Noise is Philox 4x32-10 (Salmon et al. 2011): ten rounds of two multiplications turn a counter of four words into four
random words. The seed is the key; the words of the counter are

    block of four numbers in the sample | index | step mod 2^32 | stream + 2^8 (step div 2^32)

so that no two numbers share a counter in any batch or number of processes. The method of Box and Muller (1958) turns
two words w and w' into two normals, sqrt(-2 log u) (cos a, sin a) with u = (w + 1/2) / 2^32 and a = 2 pi w' / 2^32,
w' taken as signed. They are bounded by sqrt(66 log 2) = 6.76, beyond which a normal has probability 1.4e-11. The
integers are the same bits on every device; the normals agree to rounding, and on one device are the same bits in any
batch.
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

VERSION = 2  # increase it when a seed gives other numbers; 1 was a NumPy generator for each sample and step
MAX_SEED, MAX_INDEX, MAX_STEP = 2**64 - 1, 2**32 - 1, 2**56 - 1
# Each purpose has its own stream, so that adding a draw in one place changes nothing elsewhere. Never renumber.
STREAMS = {"order": 0, "train": 1, "held_out": 2, "start": 3, "sample": 4, "walk": 5, "exact": 6, "weights": 7,
           "bound": 8, "probe": 9, "dequantise": 10, "levels": 11, "evaluate": 12, "tune": 13, "edit": 14}

WORD_MASK = 2**32 - 1
MULTIPLIERS, KEY_STEPS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
SMALL, CHUNK = 256, 1 << 15  # blocks up to which one long integer is fastest, and blocks that fit in a core's cache


def generator(seed: int, stream: str, index: int = 0, step: int = 0) -> np.random.Generator:
    """A NumPy generator for one purpose, index and step: orders, choices and probes, which are drawn on the host.

    Args:
        seed: any integer from 0 to 2^64 - 1.
        stream: a name of `STREAMS`.
        index: which of several draws, >= 0.
        step: which step of a chain or of a training, >= 0.

    Raises:
        ValueError: the seed is not an integer, or out of range.
    """
    seed = require_int("seed", seed, 0, MAX_SEED)
    # A list of Python integers from 2^63 on would become float64, in which neighbouring seeds are equal.
    key = np.array([seed, STREAMS[stream]], dtype=np.uint64)
    # The two low words of the counter are left to the draws: 2^128 numbers each.
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, step]))


def normal(seed: int, stream: str, index: int, step: int, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
    """Standard normal noise of `shape` for one (seed, stream, index, step); a longer draw starts with the same numbers.

    It has the dtype and device of `like`, or is float64 on the CPU; arguments and errors as for `per_sample`.
    """
    like = torch.empty(0, dtype=torch.float64, device="cpu") if like is None else like
    return per_sample(seed, stream, range(index, index + 1), step, like.new_empty(1, *shape))[0]


def per_sample(seed: int, stream: str, indices: range, step: int, like: Tensor) -> Tensor:
    """Standard normal noise that depends on each sample's index, and not on the batch that the sample is in.

    Args:
        seed: of the whole draw, 0 to 2^64 - 1.
        stream: a name of `STREAMS`.
        indices: of the rows' samples in the whole draw, one for each row of `like`, below 2^32.
        step: the step of the chain, 0 to 2^56 - 1.
        like: (B, ...), which has the shape, dtype and device of the result.

    Returns:
        (B, ...), the same numbers in every precision and on every device, to rounding.

    Raises:
        ValueError: a seed, index or step that is not an integer, or out of range.
    """
    if like.device.type == "mps":  # which has no float64
        return per_sample(seed, stream, indices, step, torch.empty_like(like, device="cpu")).to(like.device)
    seed, step = require_int("seed", seed, 0, MAX_SEED), require_int("step", step, 0, MAX_STEP)
    for index in (*indices[:1], *indices[-1:]):
        require_int("index", index, 0, MAX_INDEX)
    high_words = step & WORD_MASK, STREAMS[stream] | step >> 32 << 8
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    rows, size = len(indices), math.prod(like.shape[1:])
    blocks, limit = -(-size // 4), CHUNK if _on_host(like.device) else 2**62
    if rows * blocks <= limit:  # on an accelerator, always
        values = _normals(*_words(seed, indices, range(blocks), high_words, like.device), dtype)[:, :size]
        return values.reshape(like.shape).to(like.dtype)
    noise, height, width = like.new_empty(rows, size), max(1, limit // blocks), min(blocks, limit)
    for row, block in itertools.product(range(0, rows, height), range(0, blocks, width)):
        chunk = noise[row:row + height, 4 * block:4 * (block + width)]
        words = _words(seed, indices[row:row + height], range(block, min(block + width, blocks)), high_words,
                       like.device)
        chunk.copy_(_normals(*words, dtype)[:, :chunk.shape[1]])
    return noise.view(like.shape)


def _on_host(device: torch.device) -> bool:
    """Whether the integers are computed by NumPy, whose calls and multiplications are faster on a CPU."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def _words(seed: int, indices: range, blocks: range, high_words: tuple[int, int],
           device: torch.device) -> tuple[Tensor, Tensor]:
    """The random words of blocks of samples, two (rows, blocks, 2) int64: for the radii and for the angles."""
    if not _on_host(device):
        block = torch.arange(blocks.start, blocks.stop, device=device)
        index = torch.arange(indices.start, indices.stop, indices.step, device=device)[:, None]
        high = (torch.full((1, 1), word, dtype=torch.int64, device=device) for word in high_words)
        a, b, c, d = _philox([block, index, *high], seed)
        return torch.stack([a, c], -1), torch.stack([b, d], -1)
    block = np.arange(blocks.start, blocks.stop, dtype=np.uint64)
    index = np.arange(indices.start, indices.stop, indices.step, dtype=np.uint64)[:, None]
    words = np.empty((2, len(index), len(block), 2), dtype=np.uint64)
    if words.size <= 4 * SMALL:
        # One long integer with 64 bits a block: a call of NumPy would cost more than the arithmetic.
        size = 2 * words.size
        ones = ((1 << 8 * size) - 1) // (2**64 - 1)
        packed = (int.from_bytes(np.broadcast_to(word, words.shape[1:3]).tobytes(), "little")
                  for word in (block, index))
        random = _philox([*packed, *(word * ones for word in high_words)], seed, ones)
        content = b"".join(word.to_bytes(size, "little") for word in random)
        random = np.frombuffer(content, np.uint64).reshape(4, len(index), len(block))
    else:
        random = _philox([block, index, *(np.full((1, 1), word, dtype=np.uint64) for word in high_words)], seed)
    for number, word in enumerate(random):
        words[number % 2, ..., number // 2] = word
    words = words.view(np.int64)
    return torch.from_numpy(words[0]), torch.from_numpy(words[1])


def _philox(counter: Sequence[Any], seed: int, ones: int = 1) -> Sequence[Any]:
    """Philox 4x32-10 of words in 64 bits: in arrays, in tensors, or packed into long integers, with `ones` a 1 in each
    64 bits.

    The first and the third array or tensor are overwritten.
    """
    (a, b, c, d), mask, keys = counter, WORD_MASK * ones, (seed & WORD_MASK, seed >> 32)
    for _ in range(10):
        a *= MULTIPLIERS[0]
        c *= MULTIPLIERS[1]
        # Only the low halves of b and d count; the mask removes the rest, and a sign that was shifted in.
        left, right = c >> 32 ^ b, a >> 32 ^ d
        left ^= keys[0] * ones
        right ^= keys[1] * ones
        left &= mask
        right &= mask
        a, b, c, d = left, c, right, a
        keys = (keys[0] + KEY_STEPS[0]) & WORD_MASK, (keys[1] + KEY_STEPS[1]) & WORD_MASK
    return a, b & mask, c, d & mask


def _normals(radius: Tensor, angle: Tensor, dtype: torch.dtype) -> Tensor:
    """Normals (rows, 4 blocks), float32 or float64, from words (rows, blocks, 2) by the method of Box and Muller."""
    # The logarithm is taken in float64, as near u = 1 the smallest radii would be wrong by more than rounding.
    r = radius.double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).to(dtype).sqrt_()
    a = angle.to(torch.int32).to(dtype).mul_(2 * math.pi / 2**32)
    x, y = a.cos().mul_(r), a.sin_().mul_(r)
    # A complex tensor is twice as fast as a stack, but not supported by the compiler.
    pairs = torch.stack((x, y), -1) if torch.compiler.is_compiling() else torch.view_as_real(torch.complex(x, y))
    return pairs.flatten(1)
