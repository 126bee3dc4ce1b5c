"""Several processes from one command, through torchrun's own agent."""

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
    "is_announced",
    "is_first",
    "is_launched",
    "is_launched_by_ornstein",
    "job_name",
    "launch",
    "report_error",
    "report_outcome",
    "report_stop",
    "restart_count",
    "restart_limit",
    "start_time",
    "watch_parent",
]

RESTARTS = 3  # of all processes, after one has died
STARTED, OUTCOME, PARENT = "ORNSTEIN_STARTED", "ORNSTEIN_OUTCOME", "ORNSTEIN_PARENT"
STOPPED = ".stopped"  # ending of the file that marks a stop on request


def is_launched() -> bool:
    """Whether torchrun, or `launch`, started this process as one of several."""
    return "WORLD_SIZE" in os.environ


def is_launched_by_ornstein() -> bool:
    """Whether `launch` started this process, rather than the user's own torchrun."""
    return PARENT in os.environ


def is_announced() -> bool:
    """Whether the first line of output has been printed, by the launching command or before a restart."""
    return is_launched_by_ornstein() or restart_count() > 0


def is_first() -> bool:
    """Whether this is the first of the processes, the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def restart_count() -> int:
    """How often the processes have been restarted."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def restart_limit() -> int:
    """How often the processes may be restarted."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", RESTARTS))


def start_time() -> float:
    """`time.monotonic()` at the first line of output of the command."""
    return float(os.environ.get(STARTED, time.monotonic()))


def launch(arguments: list[str], processes: int, start: float) -> None:
    """Run `python -m ornstein` with these arguments in several processes, and restart all of them if one dies.

    `start` is `time.monotonic()` at the start of the budget. Raises RuntimeError if restarts did not help, SystemExit
    if the processes were asked to stop.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The agent's own log takes thirty lines for what our error message says in one.
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder) / "outcome"
        # With a shared store the restart after a killed worker can hang: 4 of 8 succeeded, without it 15 of 15.
        os.environ |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", STARTED: str(start), OUTCOME: str(outcome),
                       PARENT: str(os.getpid())}
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
        config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=processes, rdzv_backend="c10d",
                              rdzv_endpoint="localhost:0", max_restarts=RESTARTS, monitor_interval=0.2,
                              run_id=f"ornstein-{os.getpid()}", signals_to_handle=",".join(
                                  number.name for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN))
        failed = None
        try:
            elastic_launch(config, sys.executable)("-P", "-m", "ornstein", *arguments)  # -P: not the working folder
        except SignalException as error:
            if not Path(f"{outcome}{STOPPED}").exists():
                print("ornstein: stopped at once; what was not saved before is lost", file=sys.stderr)
            raise SystemExit(128 + int(error.sigval)) from None
        except ChildFailedError as error:
            failed = error.get_first_failure()[1]
        if failed and not outcome.is_file():
            report = Path(f"{outcome}.{failed.local_rank}")
            reason = f" ({report.read_text('utf-8')})" if report.is_file() else ""
            raise RuntimeError(f"process {failed.local_rank} of {processes} ended with code {failed.exitcode}{reason}, "
                               f"and {RESTARTS} restarts did not help; resume with --resume")
        if outcome.is_file():
            code, _, text = outcome.read_text("utf-8").partition(" ")
            if int(code):
                print(printable(text), file=sys.stderr)
                raise SystemExit(int(code))


def job_name() -> str:
    """The name of the job that this process belongs to, the same after a restart; "" for a single process."""
    return f"{os.environ.get('TORCHELASTIC_RUN_ID', '')} {os.getppid()}" if is_launched() else ""


def report_error(text: str) -> None:
    """Report to the launching command why this process ends, to be shown if restarts do not help."""
    if path := os.environ.get(OUTCOME):
        files.write_text(Path(f"{path}.{os.environ.get('LOCAL_RANK', '0')}"), text)


def report_outcome(code: int, text: str = "") -> bool:
    """Report to the launching command that the training has ended, so that it is not restarted; False without one."""
    path = os.environ.get(OUTCOME)
    if path:
        files.write_text(Path(path), f"{code} {text}")
    return path is not None


def report_stop() -> None:
    """Report to the launching command that this process stopped on request and has saved."""
    if path := os.environ.get(OUTCOME):
        files.write_text(Path(f"{path}{STOPPED}"), "")


def watch_parent() -> None:
    """End this process when the launching command ends, even if that is killed; end now if its training is over."""
    path, parent = os.environ.get(OUTCOME), os.environ.get(PARENT)
    if path and Path(path).is_file():
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
