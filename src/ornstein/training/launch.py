"""Many processes from one command, through torchrun's own agent."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from ornstein import files
from ornstein.arguments import printable
from ornstein.training.signals import SIGNALS

__all__ = [
    "announced",
    "by_us",
    "fault",
    "is_first",
    "job",
    "launch",
    "launched",
    "most_restarts",
    "outcome",
    "restarts",
    "started",
    "stopped",
    "watch_parent",
]

RESTARTS = 3  # of all processes, after one has died
STARTED, OUTCOME, PARENT = "ORNSTEIN_STARTED", "ORNSTEIN_OUTCOME", "ORNSTEIN_PARENT"
STOPPED = ".stopped"  # what a file beside the outcome says


def launched() -> bool:
    """Whether torchrun, or `launch`, has started this process as one of several."""
    return "WORLD_SIZE" in os.environ


def by_us() -> bool:
    """Whether `launch` has started this process, and not the user's own torchrun."""
    return PARENT in os.environ


def announced() -> bool:
    """Whether the first line of output has been printed, by `launch` or before a new start."""
    return by_us() or restarts() > 0


def is_first() -> bool:
    """Whether this is the first of the processes, which prints and writes for all."""
    return os.environ.get("RANK", "0") == "0"


def restarts() -> int:
    """How often the processes have been started again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def most_restarts() -> int:
    """How often they may be started again."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", RESTARTS))


def started() -> float:
    """`time.monotonic()` at the first line of output of the command."""
    return float(os.environ.get(STARTED, time.monotonic()))


def launch(words: list[str], processes: int, begun: float) -> None:
    """Run `python -m ornstein` with these words in several processes, and again if one of them dies.

    `begun` is `time.monotonic()` when the budget began. RuntimeError where starting again did not help, SystemExit
    where they were asked to stop.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The agent's own log repeats in thirty lines what we say in one.
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        note = Path(place) / "outcome"
        # With a shared store a killed worker leaves the next start waiting: 4 of 8 came back, without it 15 of 15.
        os.environ |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", STARTED: str(begun), OUTCOME: str(note),
                       PARENT: str(os.getpid())}
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
        config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=processes, rdzv_backend="c10d",
                              rdzv_endpoint="localhost:0", max_restarts=RESTARTS, monitor_interval=0.2,
                              run_id=f"ornstein-{os.getpid()}", signals_to_handle=",".join(
                                  one.name for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN))
        failed = None
        try:
            elastic_launch(config, sys.executable)("-P", "-m", "ornstein", *words)  # no module of the folder it runs in
        except SignalException as error:
            if not Path(f"{note}{STOPPED}").exists():
                print("ornstein: stopped at once; what was not saved before is lost", file=sys.stderr)
            raise SystemExit(128 + int(error.sigval)) from None
        except ChildFailedError as error:
            failed = error.get_first_failure()[1]
        if failed and not note.is_file():
            said = Path(f"{note}.{failed.local_rank}")
            why = f" ({said.read_text('utf-8')})" if said.is_file() else ""
            raise RuntimeError(f"process {failed.local_rank} of {processes} ended with code {failed.exitcode}{why}, "
                               f"and {RESTARTS} restarts did not help; go on with --resume")
        if note.is_file():
            code, _, text = note.read_text("utf-8").partition(" ")
            if int(code):
                print(printable(text), file=sys.stderr)
                raise SystemExit(int(code))


def job() -> str:
    """A name of the job that this process belongs to, the same after a new start; "" for a process on its own."""
    return f"{os.environ.get('TORCHELASTIC_RUN_ID', '')} {os.getppid()}" if launched() else ""


def fault(text: str) -> None:
    """Tell the command that started this process why it ends, for the case that starting again does not help."""
    if place := os.environ.get(OUTCOME):
        files.write_text(Path(f"{place}.{os.environ.get('LOCAL_RANK', '0')}"), text)


def outcome(code: int, text: str = "") -> bool:
    """Tell the command that started this process how the training ended, and not to start it again; False if none."""
    place = os.environ.get(OUTCOME)
    if place:
        files.write_text(Path(place), f"{code} {text}")
    return place is not None


def stopped() -> None:
    """Tell the command that started this process that it has been asked to stop, and has saved."""
    if place := os.environ.get(OUTCOME):
        files.write_text(Path(f"{place}{STOPPED}"), "")


def watch_parent() -> None:
    """End with the command that started this process, even if that is killed; and at once if its training is over."""
    place, parent = os.environ.get(OUTCOME), os.environ.get(PARENT)
    if place and Path(place).is_file():
        raise SystemExit(0)
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
