"""Features of a network that the user provides as a TorchScript file: Inception, DINOv2."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ornstein import machine
from ornstein.data import cache
from ornstein.data.spec import DataSpec
from ornstein.evaluation.features.space import Features

__all__ = ["SPACES", "TorchScriptFeatures", "file_path"]

SPACES = ("inception", "dinov2")
SIDE = 224  # pixels that DINOv2 was trained on, 16 patches of 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue in [0, 1]


def file_path(key: str, path: str | Path | None) -> Path:
    """The file that features are read from: `path`, or the one in the cache folder."""
    file = cache.folder() / "features" / f"{key}.pt" if path is None else Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file, but features {key!r} are read from it; put a TorchScript "
                                f"file there, or name one as {key}=FILE")
    return file


class TorchScriptFeatures(Features):
    """Features computed by a TorchScript file, a program that must be trusted, from pictures of 1 or 3 channels.

    "inception" passes (N, 3, H, W) float32 whole numbers 0..255 and `return_features=True`, as expected by the file
    inception-2015-12-05.pt of StyleGAN (Karras et al. 2021), which resizes and scales inside: the distances are then
    FID (Heusel et al. 2017). "dinov2" passes 224 x 224 pixels, bicubic, normalised as for ImageNet (Oquab et al. 2023;
    for distances Stein et al. 2023). The channel of grey pictures is repeated three times.
    """

    batch = 64

    def __init__(self, key: str, path: str | Path | None, spec: DataSpec) -> None:
        if spec.kind != "picture" or spec.shape[0] not in (1, 3):
            raise ValueError(f"features {key!r} need grey or colour pictures; data {spec.name!r} are {spec.kind}s "
                             f"of shape {spec.shape}, so use pixels or network")
        file = file_path(key, path)
        self.device = machine.default_device()
        try:
            self.module = torch.jit.load(str(file), map_location=self.device).eval()
        except RuntimeError as error:
            raise ValueError(f"{file}: not a readable TorchScript file: {str(error).splitlines()[0]}") \
                from error
        schema = self.module.forward.schema.arguments
        self.options = {"return_features": True} if any(arg.name == "return_features" for arg in schema) else {}
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        super().__init__(key, f"{key}: {file.name}, sha256 {digest}", spec)

    def _features(self, x: Tensor) -> Tensor:
        x = x.expand(-1, 3, -1, -1).to(self.device)
        black, white = (torch.from_numpy(end).to(x) for end in self.spec.ends)
        unit = ((x - black) / (white - black)).clamp(0, 1)
        if self.key == "inception":
            pixels = (unit * 255).round()
        else:
            mean, std = (torch.tensor(values, dtype=unit.dtype, device=unit.device).view(3, 1, 1)
                         for values in (MEAN, STD))
            pixels = (F.interpolate(unit, size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1) - mean) / std
        features = self.module(pixels, **self.options)
        if not isinstance(features, Tensor) or len(features) != len(x):
            raise ValueError(f"{self.name} returned {type(features).__name__}; it must return one tensor with a row "
                             "for each picture")
        return features.flatten(1)
