"""Schedules and exact models that many tests share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from filelock import FileLock
from samplers import mixture

import ornstein as orn
from ornstein import cli

# One thread for each process of the tests and for what it starts, however many cores there are.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# Nothing of a job that the tests may be part of.
for variable in [name for name in os.environ if name.startswith(("ORNSTEIN_", "TORCHELASTIC_"))
                 or name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]:
    del os.environ[variable]

# A suite that a script has started in the background ignores Ctrl-C, and so would every program that a test starts.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL),
                        (signal.SIGHUP, signal.SIG_DFL)):
    signal.signal(number, handler)

# The same examples in every run: a test that fails once fails again.
hypothesis.settings.register_profile("ornstein", derandomize=True, deadline=None, max_examples=40)
hypothesis.settings.load_profile("ornstein")


class Squared(orn.Schedule):
    """A user's own schedule: one method, neither variance-preserving nor exploding."""

    def level(self, t):
        return orn.Level(1 - 0.9 * t**2, 1.5 * t + 0.5 * t**3)


def random_chain(T: int) -> orn.Chain:
    return orn.Chain(torch.from_numpy(np.random.default_rng(T).uniform(1e-4, 0.3 if T > 2 else 0.9, T)))


SCHEDULES = {
    "chain-linear": orn.Chain.linear(),
    "chain-1": random_chain(1),
    "chain-2": random_chain(2),
    "chain-1000": random_chain(1000),
    "cosine": orn.Cosine(),
    "linear": orn.Linear(),
    "exploding": orn.Exploding(),
    "own": Squared(),
}


CHAINS = {name: schedule for name, schedule in SCHEDULES.items() if isinstance(schedule, orn.Chain)}
PRESERVING = {**CHAINS, "cosine": SCHEDULES["cosine"]}


def exact_alpha(beta: torch.Tensor) -> list[Decimal]:
    """alpha_0 .. alpha_T (20.7) as the product of (1 - beta) in 60 digits, from the float64 betas taken as exact."""
    with localcontext() as context:
        context.prec = 60
        alpha = [Decimal(1)]
        for value in beta.tolist():
            alpha.append(alpha[-1] * (1 - Decimal(value)))
        return alpha


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal float64 numbers of a fixed seed, drawn without the library."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.fixture(params=SCHEDULES, ids=str)
def schedule(request) -> orn.Schedule:
    return SCHEDULES[request.param]


@pytest.fixture
def mixture_of():
    """A mixture of 6 components in `dim` dimensions: that of the sampler benchmark."""

    def build(schedule: orn.Schedule, dim: int = 2, components: int = 6, low: float = 0.3, high: float = 0.6):
        return mixture(schedule, dim, components, low, high, seed=7)

    return build


@pytest.fixture(scope="session", autouse=True)
def sparing() -> Callable[..., object]:
    """What every test would pay for and few look at: trainings judge themselves by fewer samples and draw theirs in
    fewer calls, and the parts of a figure are not moved apart except by what is returned, for `laid_out` to bring back.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    whole = ConstrainedLayoutEngine.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ornstein.training.learner.HELD_OUT", 64)
        for module in ("pictures", "statistics"):
            patch.setattr(f"ornstein.figures.{module}.CALLS", 4)
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda *_: None)
        yield whole


@pytest.fixture
def laid_out(sparing, monkeypatch):
    """Figures as users get them."""
    monkeypatch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", sparing)


@pytest.fixture(autouse=True)
def _on_its_own(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache, and what it draws does not depend on the tests before it; a training
    draws its samples at its end, where no test asks for those on the way."""
    monkeypatch.setenv("ORNSTEIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr("ornstein.training.budget.PREVIEWS", ())
    torch.manual_seed(0)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_BROWSER = "there is no chromium to look at pages with"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail(f"{NO_BROWSER}; .ci/run installs it")
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """Below all else it is said if pages were not looked at."""
    yield
    unseen = sum(NO_BROWSER in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if unseen:
        terminalreporter.write_sep("!", f"{unseen} tests of pages did NOT run: {NO_BROWSER}", red=True, bold=True)


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """Pixels of every picture that Pillow decodes, in their order."""
    from PIL.ImageFile import ImageFile

    areas, load = [], ImageFile.load
    monkeypatch.setattr(ImageFile, "load", lambda picture: (areas.append(picture.width * picture.height),
                                                           load(picture))[1])
    return areas


FAST = ["--set", "options={widths: [16], depths: [1]}", "--set", "batch=64"]


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Run the command line in this process, in an empty folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ornstein", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


@pytest.fixture(scope="module")
def few_trees():
    """A forest of 5 trees tells what one of 200 does, less sharply."""
    from ornstein.evaluation import classifier

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(classifier.forest_auc_interval.__kwdefaults__, "trees", 5)
        yield


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills for all processes of the tests; nobody may write into it afterwards."""
    root = factory.getbasetemp()
    place = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "shared" / name
    place.parent.mkdir(exist_ok=True)
    whole = place.with_name(f"{name}.whole")
    with FileLock(place.with_name(f"{name}.lock")):
        if not whole.exists():
            make(place)
            whole.touch()
    return place


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    def make(out: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["ornstein", "train", "digits", "--images", "640", "--out", str(out), *FAST])
            with pytest.raises(SystemExit) as stop:
                cli.main()
        assert not stop.value.code

    return made_once(tmp_path_factory, "digits", make)
