"""A terminal that is gone, closed, full or narrow costs lines and nothing else, and Ctrl-C is one line, always."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import termios
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch

import ornstein as orn
from ornstein import cli, display, terminal
from ornstein.__main__ import main

pytestmark = pytest.mark.usefixtures("trained")
STOPPED = "ornstein: stopped at once; what was not saved before is lost\n"


def program(*words: Any, first: Callable[[], None] = lambda: None, out: int | None = None, closed: tuple[int, ...] = (),
            encoding: str = "utf-8") -> tuple[int, str, str]:
    """Run the whole program in a process of its own, forked from this one: (exit code, output, errors).

    Args:
        words: of the command line.
        first: called in the process before the program.
        out: its standard output, instead of a file that is read.
        closed: standard streams that are closed.
        encoding: of the streams.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = os.fork()
        if process == 0:
            _be(words, first, [output.fileno() if out is None else out, errors.fileno()], closed, encoding)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return code, _all(output), _all(errors)


def _all(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _be(words: tuple[Any, ...], first: Callable[[], None], streams: list[int], closed: tuple[int, ...],
        encoding: str) -> None:
    code = 99
    try:
        for number, file in enumerate(streams, 1):
            os.dup2(file, number)
        sys.stdout, sys.stderr = (open(number, "w", encoding=encoding, closefd=False)  # noqa: SIM115
                                  if number not in closed else None for number in (1, 2))
        for number in closed:
            os.close(number)
        torch.set_num_threads(1)  # those of the process before are not here
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["ornstein", *map(str, words)]
        first()
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def training(out: Path, *words: str) -> list[Any]:
    return ["train", "digits", "--images", 64, "--out", out, "--network", "mlp", "--set",
            "options={width: 8, depth: 1}", "--set", "batch=16", "--set", "compile=false", *words]


def at_call(number: int) -> Callable[[], None]:
    """Press Ctrl-C when so many Python functions have been called."""
    count = 0

    def seen(*_: Any) -> None:
        nonlocal count
        count += signal.getsignal(signal.SIGINT) is terminal._interrupt  # before it is Python that answers
        if count == number:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)

    return lambda: sys.setprofile(seen)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run, made in this process, so that those forked from it have nothing left to import."""
    out = tmp_path_factory.mktemp("run") / "moons"
    orn.Trainer("moons", images=64, out=out, settings=orn.Settings(batch=16, options={"width": 8, "depth": 1})).fit()
    for words in (["sample", out, "--out", out.parent / "s.png", "--count", 2], ["likelihood", out, "--count", 2],
                  training(out.parent / "digits")):
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
            patch.setattr(sys, "argv", ["ornstein", *map(str, words)])
            with pytest.raises(SystemExit, match=r"^0$"):
                cli.main()
    return out


@pytest.fixture
def own(tmp_path) -> Path:
    """Classes of a user's own that send signals to the program."""
    path = tmp_path / "own.py"
    path.write_text('''
import os, signal
import ornstein as orn

def send(*names):
    for name in names:
        os.kill(os.getpid(), getattr(signal, name))

class Halt(orn.Rule):
    order = 1
    def advance(self, step): send("SIGINT")

class Thrice(orn.Rule):
    order = 1
    def advance(self, step):
        try:
            send("SIGINT")
        finally:
            send("SIGINT", "SIGINT")

class Another(orn.Rule):
    order = 1
    def advance(self, step):
        try:
            send("SIGINT")
        except BaseException:
            raise RuntimeError("cannot load module more than once per process")

class Teller:
    def __call__(self, event):
        if type(event).__name__ == "Progress":
            send(*os.environ.pop("SIGNAL", "").split())
''')
    return path


def test_a_reader_that_has_gone_does_not_end_a_training(tmp_path):
    read, write = os.pipe()
    os.close(read)
    assert program(*training(tmp_path / "run"), out=write) == (0, "", "")
    os.close(write)
    assert orn.load(tmp_path / "run").metrics["images"] == 64


def test_nor_does_a_full_disk_behind_standard_output_which_is_said_once(tmp_path):
    with open("/dev/full", "w") as full:
        code, _, errors = program(*training(tmp_path / "run"), out=full.fileno())
        assert (code, errors.count("\n")) == (0, 1)
        assert errors == ("ornstein: standard output cannot be written (no space left on device); what it would show "
                          "is lost\n")
        # ... but what only prints has failed then.
        assert program("--version", out=full.fileno())[0] == 1


def test_a_line_that_moves_fits_into_the_terminal(tmp_path, monkeypatch):
    """Of one that wraps a part would stay behind at every step."""
    monkeypatch.delenv("COLUMNS", raising=False)
    reader, writer = os.openpty()
    termios.tcsetwinsize(writer, (24, 40))
    assert program(*training(tmp_path / "run"), out=writer) == (0, "", "")
    moved = [text.partition("\r\n")[0] for text in os.read(reader, 100_000).decode().split(display.CLEAR)[1:]]
    os.close(reader)
    os.close(writer)
    assert max(map(len, moved)) == 39
    assert all(" left  " in line for line in moved)


@pytest.mark.parametrize("closed", [(1,), (1, 2)])
def test_nor_do_closed_streams_into_whose_place_no_file_comes(tmp_path, closed):
    assert program(*training(tmp_path / "run"), closed=closed)[0] == 0
    assert orn.load(tmp_path / "run").metrics["images"] == 64


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT"])
def test_a_signal_saves_unless_it_is_ignored_from_the_start(tmp_path, own, monkeypatch, name):
    monkeypatch.setenv("SIGNAL", name)
    number, words = getattr(signal, name), training(tmp_path / "run", "--tracker", f"{own}:Teller")
    code, said, errors = program(*words)
    assert (code, errors) == (128 + number, "")
    assert said.splitlines()[-1].startswith("stopped and saved; continue with: ornstein train --out")
    assert (tmp_path / "run/model.safetensors").exists()
    code, said, errors = program(*words, "--resume", first=lambda: signal.signal(number, signal.SIG_IGN))
    assert (code, errors) == (0, "")
    assert said.splitlines()[-1].startswith("done in ")


@pytest.mark.parametrize("name", ["Halt", "Thrice", "Another"])
def test_ctrl_c_in_sample_is_one_line_whatever_becomes_of_the_exception(tmp_path, trained, own, name):
    words = ["sample", trained, "--out", tmp_path / "s.png", "--count", 2, "--sampler", f"{own}:{name}"]
    assert program(*words) == (130, "", STOPPED)
    assert not (tmp_path / "s.png").exists()


def test_a_second_ctrl_c_ends_a_training_that_is_still_saving(tmp_path, own, monkeypatch):
    monkeypatch.setenv("SIGNAL", "SIGINT SIGINT")
    code, _, errors = program(*training(tmp_path / "run", "--tracker", f"{own}:Teller"))
    assert (code, errors) == (130, STOPPED)


@pytest.mark.parametrize("number", [1, 30, 3000, 30000])
@pytest.mark.parametrize("command", ["sample", "likelihood", "list"])
def test_ctrl_c_at_any_moment_is_one_line(tmp_path, trained, command, number):
    words = {"sample": [trained, "--out", tmp_path / "s.png", "--count", 2, "--nfe", 2], "list": ["samplers"],
             "likelihood": [trained, "--count", 2, "--steps", 2]}[command]
    code, _, errors = program(command, *words, first=at_call(number))
    assert (code, errors) in ((130, STOPPED), (0, ""))
    if number < 1000:
        assert code == 130


@pytest.mark.parametrize("module", ["cyclopts", "numpy._core._multiarray_umath"])
def test_ctrl_c_while_a_module_is_imported_is_one_line(module):
    code = ("import os, signal, sys\n"
            "class Now:\n"
            "    def find_spec(self, name, *_):\n"
            f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
            "sys.meta_path.insert(0, Now())\n"
            "sys.argv = ['ornstein', 'list', 'data']\n"
            "from ornstein.__main__ import main\nmain()\n")
    job = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (job.returncode, job.stdout, job.stderr) == (130, "", STOPPED)


def test_characters_that_a_terminal_lacks_are_shown_otherwise(trained):
    code, said, errors = program("likelihood", trained, "--count", 4, "--steps", 2, encoding="ascii")
    assert (code, errors) == (0, "")
    assert " +- " in said
    code, _, errors = program("sample", trained, "--out", "s.png", "--label", "größe", encoding="ascii")
    assert code == 2
    assert r"'gr\xf6\xdfe'" in errors


def test_a_name_that_is_no_text_can_be_said_on_any_terminal(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    code, said, errors = program("train", name, "--out", tmp_path / "run")
    assert code == 2
    assert said.startswith("ornstein ")
    assert len(errors.splitlines()) == 1


def test_importing_is_told_from_running():
    """What the first Ctrl-C does depends on it."""
    seen = []

    class Finder:
        def find_spec(self, *_: Any) -> None:
            seen.append(terminal._is_importing(sys._getframe()))

    sys.meta_path.insert(0, Finder())
    try:
        with pytest.raises(ModuleNotFoundError):
            __import__("ornstein_is_not_here")
    finally:
        sys.meta_path.pop(0)
    assert seen == [True]
    assert not terminal._is_importing(sys._getframe())
