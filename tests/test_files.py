"""Files are written whole or not at all, through no link, and nothing foreign is ever deleted."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import ornstein as orn
from ornstein import checkpoint, files
from ornstein.evaluation import report_files
from ornstein.evaluation.report_files import FIGURES, PAGE
from ornstein.figures import pictures
from ornstein.figures.formats import write_picture
from ornstein.training.events import Finished
from ornstein.training.run import Run
from processes import Apart, ornstein

SMALL = orn.Settings(options={"widths": [8], "depths": [1]}, batch=32, precision="fp32", linear="diagonal",
                     snapshots=2)


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file in a folder with its bytes, and every link with where it leads."""
    return {str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()}


def train(out: Path, **options) -> orn.NetworkDenoiser:
    return orn.Trainer("digits", settings=SMALL, images=64, out=out, **options).fit()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("files") / "run"
    train(out)
    return out


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A finished run that a test may spoil."""
    subprocess.run(["cp", "-r", finished, tmp_path / "run"], check=True)
    return tmp_path / "run"


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    files.write_text(tmp_path / "a.txt", "before")
    for write, place in ((files.replacing, "a.txt"), (files.replacing, "new/er/a.txt"), (files.filling, "."),
                         (files.filling, "new/er")):
        with pytest.raises(UnicodeEncodeError), write(tmp_path / place) as beside:
            (beside if beside.is_file() else beside / "a.txt").write_text("half" * 9999 + "\ud800", "utf-8")
    assert tree(tmp_path) == {"a.txt": b"before"}
    assert not (tmp_path / "new").exists()


def test_files_that_belong_together_take_their_places_among_others(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    for text in ("one", "two"):
        for name in ("out", "fresh"):
            with files.filling(tmp_path / name) as beside:
                (beside / "a").write_text(text)
    assert tree(tmp_path) == {"out/mine": b"mine", "out/a": b"two", "fresh/a": b"two"}
    assert (tmp_path / "fresh").stat().st_mode == (tmp_path / "out").stat().st_mode


def test_what_six_killed_writes_left_is_gone_after_the_next_start_and_a_live_write_is_not(tmp_path, finished):
    code = ("import os, sys; from pathlib import Path; from ornstein import files\n"
            "with files.replacing(Path(sys.argv[1])) as beside:\n"
            "    beside.with_name('.tmpABCDEF').write_bytes(b'half'); os.kill(os.getpid(), 9)")
    model = tmp_path / "model.safetensors"
    model.write_bytes((finished / "model.safetensors").read_bytes())
    for _ in range(2):  # one write of the same file removes what the one before it left
        for _ in range(3):
            assert subprocess.run([sys.executable, "-c", code, model]).returncode == -signal.SIGKILL
        assert len(list(tmp_path.glob(".*ornstein-new"))) == 1
        with files.replacing(tmp_path / "other") as beside, Run(tmp_path).locked():
            assert beside.parent.is_dir()
            assert len(list(tmp_path.glob(".*ornstein-new"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "model.safetensors", "other"]
    assert orn.load(model).shape == (1, 8, 8)


def test_four_threads_save_to_one_path(finished, tmp_path):
    model = orn.load(finished)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: orn.save(model, tmp_path / "m.safetensors"), range(40)))
    assert tree(tmp_path) == {"m.safetensors": (finished / "model.safetensors").read_bytes()}
    assert os.umask(0o022) == 0o022


@pytest.mark.parametrize("kind", ["link", "broken link", "folder", "fifo"])
def test_what_is_no_file_is_neither_written_nor_deleted_nor_read(tmp_path, kind):
    path, mine = tmp_path / "a", tmp_path / "mine"
    mine.write_text("mine")
    {"link": lambda: path.symlink_to(mine), "broken link": lambda: path.symlink_to(tmp_path / "nothing"),
     "folder": path.mkdir, "fifo": lambda: os.mkfifo(path)}[kind]()
    for change in (lambda: files.write_text(path, "ours"), lambda: files.append(path, b"ours"),
                   lambda: files.remove(path)):
        with pytest.raises(FileExistsError, match=f"{path} is a"):
            change()
    if kind != "link":
        with pytest.raises((OSError, ValueError), match=str(path)):
            files.read_text(path)
    assert not files.is_ours(path)
    assert path.is_symlink() == ("link" in kind)
    assert mine.read_text() == "mine"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "mine"]


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"[" * 10**5, b'{"a":' * 10**5, b"", b"9" * 5000, b"null"])
def test_what_is_no_record_is_refused_by_its_name(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/a.json"):
        files.read_json(tmp_path / "a.json")


def test_one_change_of_a_file_at_a_time(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    with files.locked(path):
        with pytest.raises(FileExistsError, match="is being changed by another process; wait for it"), \
                files.locked(path):
            pass
        files.write_text(path, "two")
    with files.locked(path):
        pass


FOREIGN = {"tensorboard/events.out.tfevents.1.host.2.0": b"of others", "averages/123.safetensors": b"of others",
           "previews/holiday.png": b"picture", "checkpoints/2023/thesis.txt": b"years of work",
           "model.safetensors": b"mine", "run.yaml": b"- a list", "metrics.jsonl": b"mine"}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}], ids=str)
def test_a_folder_of_no_run_is_refused_and_left_as_it_is(tmp_path, name, how):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(FOREIGN[name])
    with pytest.raises((FileExistsError, ValueError), match=str(tmp_path)) as caught:
        train(tmp_path, **how)
    assert "overwrite" not in str(caught.value) or name == "run.yaml"
    assert tree(tmp_path) == {name: FOREIGN[name]}


def test_a_new_run_removes_the_old_one_and_nothing_else(run):
    foreign = {**{name: content for name, content in FOREIGN.items() if "/" in name}, "notes.txt": b"mine",
               "previews/000000064.jpg": b"mine", "previews/000000999.png": b"mine", ".model.safetensors.bak": b"mine",
               "averages/000000000999.safetensors": b"mine", "checkpoints/000000000999/thesis.txt": b"mine",
               "checkpoints/.2023.old/thesis.txt": b"mine", "tensorboard/run.ornstein": b"mine"}
    for name, content in foreign.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)
    ours = "tensorboard/events.out.tfevents.1.host.2.0.ornstein"
    (run / ours).write_bytes(b"ours")
    before = tree(run)
    orn.Trainer("digits", settings=SMALL, images=32, out=run, overwrite=True).fit()
    after = tree(run)
    assert {name: after.get(name) for name in foreign} == foreign
    assert ours not in after
    assert after["model.safetensors"] != before["model.safetensors"]
    assert [name for name in after if "000000000064" in name] == []


NAMES = ["checkpoints", "previews", "averages", "tensorboard", ".pid", ".job", ".lock", "model.safetensors", "run.yaml",
         "metrics.jsonl"]


@pytest.mark.parametrize(("name", "how"), [*((name, "overwrite") for name in NAMES), ("checkpoints", "resume"),
                                           (".pid", "tune"), ("model.safetensors", "tune"), (".lock", "average")])
def test_a_link_in_a_run_is_refused_where_something_would_be_written(run, command, name, how, tmp_path):
    place = tmp_path / "elsewhere"
    if (run / name).exists():
        (run / name).rename(place)
    else:
        place.mkdir() if name == "tensorboard" else place.write_text("7")
    (run / name).symlink_to(place)
    before = tree(tmp_path)
    words = {"overwrite": ("train", "digits", "--images", 64, "--out", run, "--overwrite"),
             "resume": ("train", "--out", run, "--resume"),
             "tune": ("tune", run, "--nfe", 2), "average": ("average", run, "--width", 0.1)}[how]
    code, _, err = command(*words)
    assert code == 2
    assert f"{run / name} is a link" in err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("damage", ["gone", "cut", "bit", "foreign", "folder"])
def test_a_finished_run_writes_its_model_anew(run, damage):
    model = run / "model.safetensors"
    whole = model.read_bytes()
    model.unlink()
    if damage == "folder":
        model.mkdir()
    elif damage != "gone":
        model.write_bytes({"cut": whole[:-9], "bit": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
                           "foreign": b"mine"}[damage])
    trainer = orn.Trainer("digits", out=run, resume=True)
    if damage == "folder":
        with pytest.raises(FileExistsError, match=r"model\.safetensors is a folder, not a file"):
            trainer.fit()
        return
    with pytest.warns(RuntimeWarning, match="model.safetensors is .*; it is rewritten from the last checkpoint"):
        trainer.fit()
    assert model.read_bytes() == whole


def test_a_finished_model_without_a_checkpoint_is_not_trained_over(run):
    subprocess.run(["rm", "-r", run / "checkpoints"], check=True)
    before = tree(run)
    events = list(orn.Trainer("digits", out=run, resume=True).events())
    assert [type(event) for event in events] == [Finished]
    assert (events[0].already, events[0].images) == (True, 64)
    assert tree(run) == before


def test_a_run_in_use_is_neither_tuned_nor_averaged(run, command):
    before = tree(run)
    with Run(run).locked():
        for words in (("tune", run, "--nfe", 2), ("tune", run / "model.safetensors", "--nfe", 2),
                      ("average", run, "--width", 0.1)):
            code, _, err = command(*words)
            assert code == 2
            assert f"{run} is being written into by process {os.getpid()}; wait for it, stop it" in err
    assert tree(run) == before


def test_an_average_that_cannot_be_put_together_is_refused(run, command):
    before = tree(run)
    code, _, err = command("average", run, "--width", "1e-9")
    assert (code, err.count("\n")) == (2, 1)
    assert "--width is 1e-09; 100% of such an average cannot be reconstructed" in err
    assert tree(run) == before | {".lock": b""}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write")
@pytest.mark.parametrize("words", [("evaluate", "RUN", "--out"), ("sample", "RUN", "--out"), ("trace", "RUN", "--out")],
                         ids=str)
def test_what_cannot_be_written_is_refused_before_anything_is_computed(run, command, words, monkeypatch):
    monkeypatch.setattr(orn.NetworkDenoiser, "forward", None)  # whatever asks the network fails otherwise
    place = "/proc/self/report" if words[0] == "evaluate" else "/proc/self/a.png"
    code, _, err = command(*(run if word == "RUN" else word for word in words), place)
    assert code in (1, 2)
    assert err.startswith(f"ornstein: {place}: ")
    assert err.count("\n") == 1


def test_pictures_of_another_call_are_never_lost(tmp_path):
    spec = orn.load_data("digits").spec
    x = torch.zeros(4, 1, 8, 8)
    pictures.write(spec, x, None, tmp_path / "many", {"seed": 1})
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="holds 4 pictures of an earlier call, of which 2 would be replaced and 2"):
        pictures.write(spec, x[:2], None, tmp_path / "many", {"seed": 2})
    assert tree(tmp_path) == before
    (tmp_path / "many/mine.png").write_bytes(b"mine")
    pictures.write(spec, x, None, tmp_path / "many", {"seed": 2})
    after = tree(tmp_path / "many")
    assert len(after) == 5
    assert after["mine.png"] == b"mine"
    (tmp_path / "many/00003.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"00003\.png would be overwritten, and is not a picture from ornstein"):
        pictures.write(spec, x, None, tmp_path / "many", {"seed": 3})


def test_a_report_is_replaced_only_by_a_report(run, command, tmp_path):
    page = '<!doctype html>\n<meta name="generator" content="Ornstein 0.1">'
    for name, text, fits in ((PAGE, page, True), (FIGURES, '{\n "format": 1}', True), (FIGURES, "", True),
                             (PAGE, "<title>My page on Ornstein and Uhlenbeck</title>", False), (FIGURES, "{}", False)):
        subprocess.run(["rm", "-rf", tmp_path / "r"], check=True)
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / name).write_text(text)
        code, _, err = command("evaluate", run, "--out", "r", "--overwrite", "--count", "3")
        assert code == 2
        assert (f"r holds {name}, which does not belong to a report" in err) != fits
        assert ("count is 3" in err) == fits
        assert tree(tmp_path / "r") == {name: text.encode()}


def limited(run: str, out: str) -> None:
    """Commands and calls of a process whose files may have 400 bytes."""
    place, spec, said = Path(out), orn.load_data("digits").spec, io.StringIO()
    report_files.as_dict, report_files.render = lambda _: {"a": 1}, lambda _: "x" * 1000
    noise = torch.rand(9, 1, 8, 8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
    with contextlib.redirect_stderr(said):
        for name in ("a.npz", "old.npz"):
            with contextlib.suppress(SystemExit):
                ornstein("sample", run, "--count", 200, "--nfe", 2, "--out", place / name)
        for write in (lambda: pictures.write(spec, noise, None, place / "new/a.png", {}),
                      lambda: pictures.write(spec, noise, None, place / "folder", {"long": "x" * 400}),
                      lambda: report_files.write_report([], place / "report")):
            try:
                write()
            except OSError as error:
                print(error, file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(said.getvalue())


def test_a_disk_that_is_full_leaves_nothing_partial_and_its_name_is_said(finished, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (place / "old.npz").write_bytes(b"before")
    said = Apart(tmp_path / "heard", limited, str(finished), str(place)).said().split("\n")
    assert said[:-2] == [f"ornstein: {place / name}: file too large; name another path" for name in ("a.npz", "old.npz")
                         ] + [f"[Errno 27] File too large: '{place / name}'" for name in ("new/a.png", "folder",
                                                                                         "report")]
    assert tree(place) == {"old.npz": b"before"}
    assert [path.name for path in place.iterdir()] == ["old.npz"]


def test_a_picture_says_in_its_first_bytes_whose_it_is(tmp_path, finished):
    about = PngInfo()
    about.add_itxt("Title", "mine")
    Image.new("L", (4, 4)).save(tmp_path / "mine.png", pnginfo=about)
    write_picture(Image.new("L", (4, 4)), tmp_path / "ours.png", {})
    checkpoint.write(tmp_path / "ours.safetensors", {"a": torch.zeros(1)}, {})
    assert not files.is_ours(tmp_path / "mine.png")
    assert files.is_ours(tmp_path / "ours.png")
    assert files.is_ours(tmp_path / "ours.safetensors")
    assert all(files.is_ours(path) for path in [*finished.glob("previews/*"), *finished.glob("averages/*")])


def test_two_that_began_on_one_empty_folder_do_not_replace_each_other(tmp_path):
    slow = orn.Trainer("digits", settings=SMALL, images=64, out=tmp_path)
    train(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="has been written into by another process meanwhile; start again"):
        slow.fit()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("line", [b'{"images": "x"}', b"\xff\xfe", b"[]", b"[" * 10**5, b'{"images": true}', b"{}",
                                  b"7", b'{"images": NaN}', b""])
def test_a_damaged_line_of_metrics_is_dropped_and_counted(tmp_path, line):
    whole = b'{"images": 1}\n', b'{"images": 2}\n', b'{"images": 3}\n'
    (tmp_path / "metrics.jsonl").write_bytes(whole[0] + line + b"\n" + whole[1] + whole[2] + b'{"images": 2')
    assert Run(tmp_path).rewind_metrics(2) == 1
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole[0] + whole[1]


def test_a_run_yaml_that_has_changed_since_the_last_checkpoint_is_named(run):
    file = run / "run.yaml"
    file.write_text(file.read_text().replace("seed: 0", "seed: 8").replace("keep: 2", "keep: 3"))
    with pytest.warns(RuntimeWarning) as said:
        orn.Trainer("digits", out=run, resume=True).fit()
    assert [str(one.message) for one in said] == [f"{file}: seed is 8, but was 0 at the last checkpoint"]
