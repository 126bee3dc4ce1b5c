"""Samplers: one rule per file, one loop, and the grids of `ornstein.diffusion.grid`."""

from ornstein.diffusion.samplers.loop import Frame, generate, sample, samplers

__all__ = ["Frame", "generate", "sample", "samplers"]
