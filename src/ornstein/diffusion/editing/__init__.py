"""Editing: restoration, inpainting, variation, inversion and interpolation, one edit per file."""
