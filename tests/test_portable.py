"""What Windows lacks, and macOS a part of, is not needed; the systems themselves were not at hand."""

from __future__ import annotations

import subprocess
import sys

# Before anything of Ornstein is imported, as its modules look once.
PROGRAM = """
import psutil, torch
import os, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("fork", "pread", "preadv", "sysconf", "O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC"):
    delattr(os, name)
del signal.SIGHUP

import numpy as np
import ornstein as orn
from ornstein.training.signals import stop_on_signals
np.save("rows.npy", np.random.default_rng(0).normal(size=(3000, 2)))
model = orn.Trainer("rows.npy", images=64, out="run", options={"width": 8, "depth": 1}).fit()
again = orn.Trainer("rows.npy", images=64, out="run", resume=True).fit()
with stop_on_signals(print):
    assert orn.sample(model, 2, nfe=3).equal(orn.sample(orn.load("run"), 2, nfe=3))
print("as ever")
"""


def test_a_model_is_trained_resumed_and_sampled_without_what_only_linux_has(tmp_path):
    ran = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ran.stdout.strip() == "as ever", ran.stderr[-2000:]
