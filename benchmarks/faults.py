"""Faults done to a training on purpose, and what was left of it: kills, damage, poison, full disks, hostile files.

    python benchmarks/faults.py [--rows writes kills ranks damage hostile disk] [--kills 30]

Each row prints one line of a markdown table. `disk` mounts a small tmpfs and needs root; without it the row says so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import ornstein as orn
from ornstein.training.engine import Engine
from ornstein.training.states import State, States

TINY = ["--set", "options={widths: [8], depths: [1]}", "--set", "batch=64", "--precision", "fp32"]


def train(out: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "ornstein", "train", *words, "--out", str(out)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def lines(out: Path) -> int:
    file = out / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def until(found: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end:
        time.sleep(0.01)


WRITER = """
import sys, torch
from pathlib import Path
from ornstein.training.engine import Engine
from ornstein.training.states import States
states = States(Path(sys.argv[1]), 2)
for number in range(int(sys.argv[2]), 10**6):
    tensors = {f"w{i}": torch.full((2**18,), float(number)) for i in range(32)}
    print(number, flush=True)
    states.write(number, tensors, {"images": number}, Engine())
    print("done", flush=True)
"""


def writes(count: int) -> str:
    """Kill a process at moments spread evenly over the write of a state of 34 MB; then read the newest one."""
    whole = newer = left = 0
    with tempfile.TemporaryDirectory() as place:
        states, number, length = States(Path(place), 2), 0, 0.1
        for kill in range(count):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, place, str(number)], stdout=subprocess.PIPE,
                                      text=True)
            for _ in range(2):  # the first write of a process warms up, the second is measured
                writer.stdout.readline()
                begin = time.monotonic()
                writer.stdout.readline()
                length = time.monotonic() - begin
            number = int(writer.stdout.readline())
            time.sleep(length * kill / count)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            left += len([item for item in Path(place).iterdir() if item.name.startswith(".")])
            states.clean_up()
            state, faults = states.newest()
            here = {f"w{i}": torch.zeros(2**18) for i in range(32)}
            state.fill(here)
            value = state.metadata["images"]
            whole += not faults and value in (number - 1, number) and all(
                bool((tensor == value).all()) for tensor in here.values())
            newer += value == number
            left -= len([item for item in Path(place).iterdir() if item.name.startswith(".")])
            number += 1
    return f"{count} kills over a write of {length:.2f} s: {whole} whole states ({newer} the new one, " \
           f"{whole - newer} the one before), {left} unfinished folders left and removed"


def kills(count: int) -> str:
    """One run, killed again and again at random moments, against the same run left alone."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        words = ["digits", "--images", "600000", *TINY, "--set", "save_seconds=0.3"]
        alone, killed = Path(place) / "alone", Path(place) / "killed"
        train(alone, *words).wait()
        done = 0
        while done < count:
            process, before = train(killed, *words, "--resume"), lines(killed)
            until(lambda: lines(killed) > before or process.poll() is not None)  # noqa: B023
            time.sleep(rng.uniform(0, 2))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
        train(killed, *words, "--resume").wait()
        same = (alone / "model.safetensors").read_bytes() == (killed / "model.safetensors").read_bytes()
        states = [next(iter(sorted((run / "checkpoints").iterdir())[::-1])) / "state.safetensors"
                  for run in (alone, killed)]
        same_state = states[0].read_bytes() == states[1].read_bytes()
        ends = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) for run in (alone, killed)]
        resumed = [json.loads(line)["resumed_at"] for line in (killed / "metrics.jsonl").read_text().splitlines()
                   if "resumed_at" in line]
        facts = [[end[name] for name in ("images", "loss", "held_out", "gap")] for end in ends]
    return f"{done} SIGKILLs of one run, {len(set(resumed))} different states gone on from: model file " \
           f"{'identical' if same else 'DIFFERENT'}, state " \
           f"(weights, averages, optimiser) {'identical' if same_state else 'DIFFERENT'}, last metrics " \
           f"{'identical' if facts[0] == facts[1] else 'DIFFERENT'}"


def ranks(count: int) -> str:
    """SIGKILL of one of two processes; of the command itself; how long until all is well."""
    back, times, differences = 0, [], []
    with tempfile.TemporaryDirectory() as place:
        words = ["digits", "--images", "150000", *TINY]
        alone = Path(place) / "alone"
        train(alone, *words).wait()
        for number in range(count):
            out = Path(place) / str(number)
            process = train(out, *words, "--processes", "2")
            until(lambda: lines(out) > 3)  # noqa: B023
            ours = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
            os.kill(int(ours.stdout.split()[number % 2]), signal.SIGKILL)
            begin, reached = time.monotonic(), lines(out)
            until(lambda: lines(out) not in (0, reached))  # noqa: B023
            times.append(time.monotonic() - begin)
            process.communicate()
            if process.returncode == 0:
                back += 1
                differences.append(abs(orn.load(out).metrics["held_out"] - orn.load(alone).metrics["held_out"]))
        out = Path(place) / "orphans"
        process = train(out, "digits", "--images", "100000000", *TINY, "--processes", "2")
        until(lambda: lines(out) > 0)
        ours = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
        process.send_signal(signal.SIGKILL)
        begin = time.monotonic()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ours.stdout.split()))
        gone = time.monotonic() - begin
    return f"one of 2 processes killed {count} times: {back} runs came back and finished, training again after " \
           f"{np.median(times):.1f} s (median; at most {max(times):.1f}); held-out loss within " \
           f"{max(differences, default=float('nan')):.1e} of one process; the command killed: no process left after " \
           f"{gone:.1f} s"


def damage(count: int) -> str:
    """Bits flipped, files cut and files missing, in a state and in a model."""
    rng = np.random.default_rng(0)
    refused = {"bits": 0, "cuts": 0, "missing": 0}
    with tempfile.TemporaryDirectory() as place:
        orn.save(orn.Trainer("digits", images=128).fit(), Path(place) / "m.safetensors")
        States(Path(place) / "states", 1).write(1, {"w": torch.randn(10**6)}, {}, Engine())
        state = Path(place) / "states/000000000001"
        files = [(Path(place) / "m.safetensors", lambda: orn.load(Path(place) / "m.safetensors")),
                 (state / "state.safetensors", lambda: State(state)), (state / "manifest.json", lambda: State(state))]
        for file, read in files:
            whole = file.read_bytes()
            for kind, cases in (("bits", count), ("cuts", count // 10), ("missing", 1)):
                for _ in range(cases):
                    where = int(rng.integers(len(whole)))
                    if kind == "bits":
                        flipped = bytearray(whole)
                        flipped[where] ^= 1 << rng.integers(8)
                        file.write_bytes(flipped)
                    elif kind == "cuts":
                        file.write_bytes(whole[:where])
                    else:
                        file.unlink()
                    try:
                        read()
                    except (ValueError, FileNotFoundError):
                        refused[kind] += 1
            file.write_bytes(whole)
    return f"refused, of {3 * count} flipped bits {refused['bits']}, of {3 * (count // 10)} cuts {refused['cuts']}, " \
           f"of 3 missing files {refused['missing']} (model, state and manifest)"


def _safetensors(header: bytes, data: bytes = b"\0" * 64) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def hostile(_: int) -> str:
    """safetensors files made to hurt, and a description that asks for a network of 10^9 channels."""
    def entry(**tensors: list) -> bytes:
        return json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": place}
                           for name, (shape, place) in tensors.items()}).encode()

    good = entry(a=[[16], [0, 64]])
    files = {
        "empty": b"", "header of 2^62 bytes": struct.pack("<Q", 2**62) + good,
        "header above 100 MB": struct.pack("<Q", 101 * 10**6) + b" " * (101 * 10**6),
        "overlap": _safetensors(entry(a=[[8], [0, 32]], b=[[8], [16, 48]])),
        "gap": _safetensors(entry(a=[[4], [0, 16]], b=[[4], [32, 48]])),
        "shape overflow": _safetensors(entry(a=[[2**62, 4], [0, 64]])),
        "cut": _safetensors(good)[:-10], "bytes behind": _safetensors(good) + b"more",
        "same name twice": _safetensors(good[:-1] + b", " + good[1:]),
    }
    refused, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as place:
        for name, content in files.items():
            (Path(place) / "m.safetensors").write_bytes(content)
            begin = time.perf_counter()
            try:
                orn.load(Path(place) / "m.safetensors")
                print(f"ACCEPTED: {name}", file=sys.stderr)
            except ValueError:
                refused += 1
            slowest = max(slowest, time.perf_counter() - begin)
        from ornstein import checkpoint

        model = orn.Trainer("digits", images=128).fit()
        facts = checkpoint.describe(model)
        times = []
        for options in ({"widths": [10**9]}, {"depths": [10**9]}, {"embedding": 10**15}):
            bad = {**facts, "network": {"name": "unet", "options": {**facts["network"]["options"], **options}}}
            checkpoint.write(Path(place) / "m.safetensors", model.state_dict(), bad)
            begin = time.perf_counter()
            try:
                orn.load(Path(place) / "m.safetensors")
            except ValueError:
                refused += 1
            times.append(time.perf_counter() - begin)
    return f"refused {refused} of {len(files) + 3}, files at most {1e3 * slowest:.1f} ms, descriptions of 10^9 " \
           f"channels, 10^9 blocks and 10^15 values at most {1e3 * max(times):.1f} ms"


def disk(_: int) -> str:
    """A tmpfs that fills up during a training, and is cleared again."""
    with tempfile.TemporaryDirectory() as place:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True).returncode:
            return "not run: a tmpfs cannot be mounted here"
        try:
            out, filler = Path(place) / "run", Path(place) / "filler"
            process = train(out, "digits", "--minutes", "0.7", *TINY)
            until(lambda: (out / "checkpoints").is_dir() and len(list((out / "checkpoints").glob("0*"))) > 0)
            kept = sorted((out / "checkpoints").iterdir())[-1].name
            try:
                with open(filler, "wb") as file:
                    while True:
                        file.write(b"\0" * 4096)
                        file.flush()
            except OSError:
                pass
            time.sleep(13)
            state, faults = States(out / "checkpoints", 2).newest()
            intact = not faults and state.path.name >= kept
            filler.unlink()
            said = process.communicate()[0]
            warned = [line for line in said.splitlines() if line.startswith("warning: no checkpoint")]
            unfinished = len(list((out / "checkpoints").glob(".*")))
            return f"tmpfs of 3 MB filled in the middle: {len(warned)} warnings (`{warned[0] if warned else ''}`), " \
                   f"the checkpoint before it {'whole' if intact else 'LOST'}, {unfinished} unfinished files left, " \
                   f"after room was made the run finished with code {process.returncode}"
        finally:
            subprocess.run(["umount", place], check=False)


ROWS = {"writes": writes, "kills": kills, "ranks": ranks, "damage": damage, "hostile": hostile, "disk": disk}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--kills", type=int, default=30)
    asked = parser.parse_args()
    counts = {"writes": 100, "kills": asked.kills, "ranks": 5, "damage": 100}
    print("| fault | what was left |\n|---|---|")
    for name in asked.rows:
        print(f"| {name} | {ROWS[name](counts.get(name, 0))} |", flush=True)


if __name__ == "__main__":
    main()
