"""A training survives kills, poison, full disks and small memories, or ends with what it had."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import pkgutil
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.training import budget
from ornstein.training.engine import Engine
from ornstein.training.events import Finished, Progress, Saved, TrainingFailed, Warned
from ornstein.training.learner import Learner
from ornstein.training.plan import resolve
from processes import Apart, ornstein

TINY = ["--set", "options={widths: [8], depths: [1]}", "--set", "batch=64", "--precision", "fp32"]


@pytest.fixture
def start(tmp_path):
    """`ornstein train` in a process of its own; none is left at the end."""
    begun = []

    def begin(out: Path, *words: str, work=ornstein) -> Apart:
        begun.append(Apart(tmp_path / f"heard-{len(begun)}", work, "train", *words, "--out", out))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.wait()


def wait_for(found, process: Apart) -> None:
    """Until something is so, which must be before the process ends."""
    while not found():
        assert process.running(), process.said()


# Kills another process as soon as there is something to record.
TRACKER = """
import multiprocessing, os
from pathlib import Path

class Calls:
    killed = False

    def note(self, what):
        with open(Path(__file__).parent / "told", "a") as file:
            print(os.getpid(), what, file=file)

    def __init__(self): self.note("made")

    def __call__(self, event):
        self.note(type(event).__name__)
        if type(event).__name__ == "Progress" and not self.killed:
            other, = multiprocessing.active_children()
            other.kill()
            self.killed = True
"""


class Bare(torch.nn.Module):
    """A network of one's own, for pictures of 8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 64)
        self.register_buffer("seen", torch.zeros(()))
        for value in self.layer.parameters():
            torch.nn.init.zeros_(value)

    def forward(self, y, log_snr, condition):
        self.seen += 1
        return self.layer(y.flatten(1)).view(y.shape)


class Poisoned(Bare):
    """One whose answers are not finite at some of its training calls."""

    def __init__(self, calls: range) -> None:
        super().__init__()
        self.calls, self.count = calls, 0

    def forward(self, y, log_snr, condition):
        self.count += self.training
        answer = super().forward(y, log_snr, condition)
        return answer * float("nan") if self.training and self.count - 1 in self.calls else answer


class Hungry(Bare):
    """One that needs more memory than there is for more than so many samples."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, y, log_snr, condition):
        if self.training and len(y) > self.most:
            torch.empty(2**60)
        return super().forward(y, log_snr, condition)


def learner(network: torch.nn.Module, **options) -> Learner:
    data = orn.load_data("digits")
    settings = resolve(orn.Settings(images=1, batch=64, precision="fp32", **options), data, "cpu")
    return Learner(settings, data.split()[0], Engine(), network)


def struck(name: str, calls: int, *words: str) -> None:
    """The command line, killed when a function of ours is called for the n-th time; a state is written every step."""
    budget.SAVE_SHARE = math.inf
    place, _, last = name.rpartition(".")
    owner, left = pkgutil.resolve_name(place), itertools.count(calls - 1, -1)
    plain = getattr(owner, last)

    def counted(*given, **options):
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*given, **options)

    setattr(owner, last, counted)
    ornstein(*words)


# In a step; when a state has been written but not renamed; before a model's file is replaced.
KILLS = [("ornstein.training.learner.Learner.step", 5), ("ornstein.training.states.States._finish", 3),
         ("ornstein.checkpoint.save", 3)]


@pytest.mark.parametrize("kills", [KILLS[1:2], pytest.param(KILLS, marks=pytest.mark.slow)], ids=["once", "often"])
def test_killed_at_any_moment_and_resumed_it_ends_bit_for_bit_where_it_would_have(start, tmp_path, kills):
    words = ["digits", "--images", "768", *TINY, "--set", "save_seconds=1e-9"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert start(whole, *words).wait() == 0
    for kill in kills:
        assert start(out, *words, "--resume", work=functools.partial(struck, *kill)).wait() == -signal.SIGKILL
    assert start(out, *words, "--resume").wait() == 0
    resumed = [line for line in (out / "metrics.jsonl").read_text().splitlines() if "resumed_at" in line]
    assert len(resumed) == len(kills)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    ends = [json.loads((place / "metrics.jsonl").read_text().splitlines()[-1]) for place in (whole, out)]
    for name in ("images", "loss", "held_out", "gap", "learning_rate", "skipped"):
        assert ends[0][name] == ends[1][name]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_it_saves_and_says_how_to_go_on_and_meanwhile_holds_its_folder(start, tmp_path, number, code):
    out = tmp_path / "run"
    process = start(out, "digits", "--images", "10000000", *TINY)
    wait_for((out / "metrics.jsonl").exists, process)
    second = start(out, "digits", "--resume")
    assert second.wait() == 2
    assert f"is being written into by process {process.pid}; wait for it, stop it" in second.said()
    os.kill(process.pid, number)
    assert process.wait() == code
    assert process.said().endswith(f"stopped and saved; continue with: ornstein train --out {out} --resume\n")
    assert "Traceback" not in process.said()
    assert len(list((out / "checkpoints").iterdir())) == 1
    assert (out / "model.safetensors").exists()
    assert [file.name for file in out.glob(".*")] == [".lock"]


def children(process: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def test_a_killed_process_of_several_brings_all_back(start, tmp_path):
    words = ["digits", "--images", "1280", *TINY]
    assert start(tmp_path / "one", *words).wait() == 0
    (tmp_path / "own.py").write_text(TRACKER)
    process = start(tmp_path / "two", *words, "--processes", "2", "--tracker", f"{tmp_path / 'own.py'}:Calls")
    said = process.said()
    assert process.wait() == 0, said
    assert said.count("a process died; all have been restarted (1 of 3)") == 1
    assert "Traceback" not in said
    one, two = (orn.load(tmp_path / name).metrics for name in ("one", "two"))
    assert two["images"] == one["images"]
    for name in ("loss", "held_out"):
        assert two[name] == pytest.approx(one[name], abs=1e-5)
    told = [line.split() for line in (tmp_path / "told").read_text().splitlines()]
    assert {pid for pid, _ in told} == {str(process.pid)}  # the first process alone has trackers
    assert [what for _, what in told].count("Started") == 2
    assert told[-1][1] == "Finished"


def test_no_process_outlives_the_command_that_started_it(start, tmp_path):
    process = start(tmp_path / "run", "digits", "--images", "10000000", *TINY, "--processes", "2")
    wait_for((tmp_path / "run/metrics.jsonl").exists, process)
    orphans = children(process.pid)
    assert len(orphans) == 1
    os.kill(process.pid, signal.SIGKILL)
    while any(Path(f"/proc/{pid}").exists() for pid in orphans):  # the time limit of every test ends this
        time.sleep(0.02)


def test_a_failure_that_a_new_start_would_not_help_ends_all_processes_at_once(start, tmp_path):
    process = start(tmp_path / "run", "digits", "--images", "100000", *TINY, "--processes", "2", "--set",
                    "learning_rate=1e30")
    said = process.said()
    assert process.wait() == 1
    # Which of the two is found first depends on the machine's speed.
    assert re.search(r"(the gradient was not finite in 10 steps in a row|the averaged model has diverged).* "
                     "the last checkpoint is kept", said)
    assert "restarted" not in said
    assert said.count("ornstein: ") == 1


def test_a_poisoned_step_leaves_weights_and_optimiser_alone_and_is_counted():
    """The averages go on, as averages over steps of what the weights were at each."""
    student = learner(Poisoned(range(5, 8)))
    for _ in range(5):
        student.step(1e-2)
    before = {name: value.clone() for name, value in student.state()[0].items()}
    for skipped in range(1, 4):
        student.step(1e-2)
        after = student.state()[0]
        assert all(torch.equal(after[name], value) for name, value in before.items()
                   if not name.startswith(("average.", "second.")))
        assert student.skips.tolist() == [skipped, skipped, skipped]
    student.step(1e-2)
    assert student.skips.tolist() == [3, 0, 3]
    assert student.images == 9 * 64
    assert not torch.equal(student.state()[0]["model.network.layer.weight"], before["model.network.layer.weight"])


def test_poison_for_good_ends_the_training_with_its_last_checkpoint(tmp_path):
    trainer = orn.Trainer("digits", Poisoned(range(20, 1000)), images=64 * 100, settings=orn.Settings(batch=64),
                          out=tmp_path)
    with pytest.raises(TrainingFailed, match="the gradient was not finite in 10 steps in a row, up to"):
        trainer.fit()
    assert not (tmp_path / "model.safetensors").exists()


def test_the_average_comes_back_whole_where_the_machine_would_fit_its_guess_otherwise():
    there, here = learner(Bare()), learner(Bare())
    for model in (here.model, here.average):
        model.data_mean.add_(1e-6)
    for value, saved in zip(here.state()[0].values(), there.state()[0].values(), strict=True):
        value.detach().copy_(saved)
    here.restore(there.state()[1])
    saved = there.average_state()
    assert all(torch.equal(value, saved[name]) for name, value in here.average_state().items())


def test_too_little_memory_halves_the_passes_and_not_the_batch(tmp_path):
    whole, halved = learner(Bare()), learner(Hungry(20))
    losses = [[float(student.step(1e-3)) for _ in range(20)] for student in (whole, halved)]
    assert halved.micro_batch == 16
    assert np.abs(np.subtract(*losses)).max() < 1e-6
    trainer = orn.Trainer("digits", Hungry(20), images=640, settings=orn.Settings(batch=64), out=tmp_path)
    said = [event.text for event in trainer.events() if isinstance(event, Warned)]
    assert said == ["out of memory: from now on 16 samples pass at once, in as many passes as the batch of 64 needs"]
    assert orn.Settings.from_yaml((tmp_path / "run.yaml").read_text()).micro_batch == 16
    with pytest.raises(TrainingFailed, match=r"the memory is too small for 8 samples of shape \(1, 8, 8\) at once"):
        learner(Hungry(2)).step(1e-3)


def test_a_damaged_state_gives_way_to_the_one_before_it(tmp_path):
    """... and the run still ends bit for bit where it would have."""
    settings = orn.Settings(batch=64, options={"widths": [8], "depths": [1]})
    whole = orn.Trainer("digits", settings=settings, images=960).fit()
    for _ in range(2):
        trainer = orn.Trainer("digits", settings=settings, images=960, out=tmp_path, resume=True)
        for event in trainer.events():
            if isinstance(event, Progress):  # the first one tells of the first step
                trainer.stop()
            assert not isinstance(event, Finished)
    states = sorted((tmp_path / "checkpoints").iterdir())
    assert len(states) == 2
    (states[1] / "state.safetensors").write_bytes(b"")
    trainer = orn.Trainer("digits", settings=settings, out=tmp_path, resume=True)
    events = list(trainer.events())
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert warned == [f"{states[1] / 'state.safetensors'} is cut short; the state before it is used"]
    assert all(torch.equal(value, events[-1].model.state_dict()[name]) for name, value in whole.state_dict().items())


def full_disk(out: str, most: int) -> None:
    """A training in a process that may write files of so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    trainer = orn.Trainer("digits", images=640, out=out, settings=orn.Settings(batch=64, keep=1, options={
        "widths": [8], "depths": [1]}))
    for event in trainer.events():
        if isinstance(event, Progress):
            trainer.stop()
        if isinstance(event, Saved):
            break
    trainer = orn.Trainer("digits", out=out, resume=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        trainer.fit()
    except TrainingFailed as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    trainer = orn.Trainer("digits", out=out, resume=True)
    print(trainer.can_resume, trainer.fit().metrics["images"])


def test_a_full_disk_keeps_the_checkpoint_that_is_there(tmp_path):
    said = Apart(tmp_path / "heard", full_disk, str(tmp_path / "run"), 20000).said()
    first, second = said.splitlines()[-2:]
    assert re.search(r"no checkpoint at 640 pictures: .*model.safetensors.*; the one before it is kept: make room and "
                     r"resume with --resume", first), said
    assert second == "True 640"
    assert not [item for item in (tmp_path / "run").rglob(".*") if item.name != ".lock"]


def test_a_network_with_one_tensor_under_two_names_is_refused_before_it_trains():
    class Tied(Bare):
        def __init__(self):
            super().__init__()
            self.again = self.layer

    with pytest.raises(ValueError, match=r"one tensor under two names, network\.layer\.\w+ and network\.again\."):
        orn.Trainer("digits", Tied(), images=64).fit()


@pytest.mark.slow
def test_under_torchrun_a_new_start_touches_no_run_but_its_own(start, tmp_path):
    """... and without any flag it goes on with the run that the same job has begun."""
    assert start(tmp_path / "run", "digits", "--images", "640", *TINY).wait() == 0
    before = (tmp_path / "run/model.safetensors").read_bytes()
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "-m",
             "ornstein", "train", "digits", "--images", "30000", *TINY, "--out"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    refused = subprocess.run([sys.executable, *words, str(tmp_path / "run")], capture_output=True, text=True, env=env)
    assert refused.returncode != 0
    assert "already holds a run" in refused.stderr
    assert (tmp_path / "run/model.safetensors").read_bytes() == before
    process = subprocess.Popen([sys.executable, *words, str(tmp_path / "new")], text=True, env=env,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (tmp_path / "new/metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "a process died; all have been restarted (1 of 1)" in said
    assert orn.load(tmp_path / "new").metrics["images"] == 30016
