"""The plan of the house, read from the source: floors, sizes, names, and what must not be there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import ornstein

HOUSE = Path(__file__).parents[1]
SOURCE = HOUSE / "src" / "ornstein"
MODULES = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
           for path in sorted(SOURCE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}

# Floor by floor, as in docs/architecture.md; an entry is a room: a module, or a package with all that is in it.
FLOORS = {
    0: ("arguments", "machine", "files", "workers", "isolation"),  # the ground: imports nothing of ours
    1: ("display", "settings", "noise", "diffusion.level", "networks", "data"),
    2: ("diffusion.schedule",),
    3: ("diffusion.grid", "diffusion.encoder", "diffusion.estimate", "diffusion.linear", "diffusion.condition"),
    4: ("diffusion.denoiser",),
    5: ("diffusion.exact", "diffusion.decoder", "diffusion.guidance", "diffusion.damping", "diffusion.adaptive",
        "adoption"),
    6: ("description", "diffusion.loss", "diffusion.likelihood", "diffusion.samplers"),
    7: ("checkpoint", "tuning", "figures", "user_classes", "request", "diffusion.score", "diffusion.editing"),
    8: ("training", "evaluation", "check", "sheet"),
    9: ("terminal", "inputs", "exporting"),
    10: ("studio",),
    11: ("cli", "__main__", ""),
}
ROOMS = {f"ornstein.{room}".rstrip("."): floor for floor, rooms in FLOORS.items() for room in rooms}
FACE = 11  # the user's words and the public names are one room
UNSAFE = {"pickle", "dill", "cloudpickle", "joblib", "shelve"}


def room_of(module: str) -> str | None:
    """The room that a module is in: the longest entry of the table that is the module or a package around it."""
    inside = [room for room in ROOMS if module == room or (room != "ornstein" and module.startswith(room + "."))]
    return max(inside, key=len, default=None)


def imports_of(module: str, tree: ast.Module) -> list[tuple[int, str]]:
    """(line, module) for every module of ours that is imported, at the top or inside a function."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *([base] if base else [])])
            # `from ornstein import noise` names a module, `from ornstein.noise import normal` an entry of one.
            found += [(node.lineno, f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base)
                      for alias in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "ornstein"]


def is_bare(tree: ast.Module) -> bool:
    """Whether a module holds nothing but a docstring."""
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in tree.body)


def test_every_module_has_a_floor_and_every_room_is_there():
    """As the table above says."""
    assert not [module for module in MODULES if not (room_of(module) or is_bare(TREES[module]))]
    assert not ROOMS.keys() - {room_of(module) for module in MODULES}


def test_a_module_imports_from_lower_floors_only():
    """Its own room is allowed, and so is another module of the face; nothing else on the same floor or above."""
    wrong = []
    for module, tree in TREES.items():
        here = room_of(module)
        for line, name in imports_of(module, tree):
            there = room_of(name)
            allowed = there is not None and here is not None and (
                ROOMS[there] < ROOMS[here] or there == here or ROOMS[there] == ROOMS[here] == FACE)
            if not allowed:
                wrong.append(f"{MODULES[module]}:{line} imports {name}, which is not below it")
    assert not wrong


def orders() -> dict[str, list[str]]:
    """Of each package that the page of the house tells "from the inside out", the modules that it names, in order.

    In those paragraphs every word of letters alone between backticks is a module, or the door of a folder inside.
    """
    page = (HOUSE / "docs" / "architecture.md").read_text("utf-8")
    paragraphs = re.findall(r"^`([a-z/]+)/`, from the inside out: (.*?)(?:\n\n|\Z)", page, re.MULTILINE | re.DOTALL)
    return {folder.replace("/", "."): re.findall(r"`([a-z_]+)/?`", text) for folder, text in paragraphs}


@pytest.mark.parametrize("package", ["data", "training", "evaluation", "diffusion.likelihood", "diffusion.samplers",
                                     "diffusion.editing", "tuning", "exporting", "adoption"])
def test_inside_a_package_a_module_imports_only_those_that_the_page_names_before_it(package):
    """Every module is named there, once; what is imported from the package as a whole may use all of them."""
    order, door = orders()[package], f"ornstein.{package}"
    names = {module: module.rpartition(".")[2] for module in MODULES if module.startswith(door + ".")}
    assert sorted(order) == sorted(names.values())
    place = {module: order.index(name) for module, name in names.items()} | {door: len(order)}
    assert not [f"{MODULES[module]}:{line} imports {name}, which docs/architecture.md does not name before it"
                for module in place for line, name in imports_of(module, TREES[module])
                if name in place and place[name] >= place[module]]


def test_the_reader_of_imports_sees_every_form_of_one():
    """So that the test above cannot pass by not looking."""
    code = ("import ornstein.diffusion.exact\nfrom ornstein import noise\nfrom . import exact\n"
            "def f():\n    from ornstein.diffusion.samplers.loop import sample\n    from .schedule import grid\n")
    seen = {name for _, name in imports_of("ornstein.diffusion.loss", ast.parse(code))}
    assert seen == {"ornstein.diffusion.exact", "ornstein.noise", "ornstein.diffusion.samplers.loop",
                    "ornstein.diffusion.schedule"}


def test_encoder_and_estimate_do_not_know_each_other():
    for module, other in (("encoder", "estimate"), ("estimate", "encoder")):
        name = f"ornstein.diffusion.{module}"
        assert f"ornstein.diffusion.{other}" not in {there for _, there in imports_of(name, TREES[name])}


@pytest.mark.parametrize("folder", ["networks", "data"])
def test_networks_and_data_know_nothing_of_diffusion(folder):
    for module, tree in TREES.items():
        if module.startswith(f"ornstein.{folder}"):
            assert not [name for _, name in imports_of(module, tree) if ".diffusion" in name], module


def test_no_file_is_longer_than_400_lines():
    files = [path for folder in ("src", "tests", "benchmarks") for path in (HOUSE / folder).rglob("*.py")]
    long = {str(path.relative_to(HOUSE)): lines for path in files
            if (lines := len(path.read_text("utf-8").splitlines())) > 400}
    assert not long


def test_no_module_is_a_drawer_for_odds_and_ends():
    assert not {name for name in MODULES if name.rpartition(".")[2] in {"utils", "util", "helpers", "common", "misc"}}


CLOCKS = {f"time.{name}{unit}" for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
          for unit in ("", "_ns")} | {"timeit.timeit", "timeit.default_timer", "datetime.now", "datetime.utcnow"}
PERIODS = {"seconds", "minutes", "elapsed", "waited", "images_per_second", "rate"}  # what the program says of its speed
LIMIT = 300  # seconds from which a limit is only a last resort


def clocks_of(tree: ast.Module) -> list[int]:
    """Lines that read a clock, assert how long something took, or give it less time than a slow machine may need."""
    bare = {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) for alias in node.names}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = ast.unparse(node)
            full = bare.get(name, name)
            if full in CLOCKS or ".".join(full.split(".")[-2:]) in CLOCKS:
                found.append(node.lineno)
        elif isinstance(node, ast.Assert):
            for one in ast.walk(node):
                less = isinstance(one, ast.Compare) and any(
                    isinstance(sign, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for sign in one.ops)
                words = {part.attr if isinstance(part, ast.Attribute) else getattr(part.slice, "value", None)
                         for part in ast.walk(one) if isinstance(part, ast.Attribute | ast.Subscript)}
                found += [node.lineno] * (less and bool(words & PERIODS))
        elif isinstance(node, ast.keyword) and node.arg in ("timeout", "deadline"):
            value = getattr(node.value, "value", LIMIT)
            found += [node.value.lineno] * (value is not None and value < LIMIT)
    return found


def test_no_test_depends_on_how_fast_the_machine_is():
    """Count calls, bytes or steps, give the program a clock that the test moves, or wait for an event or an end."""
    assert not {f"{path.name}:{line}" for path in (HOUSE / "tests").glob("*.py")
                for line in clocks_of(ast.parse(path.read_text("utf-8")))}


def test_no_test_draws_from_a_generator_that_others_draw_from_too():
    """So that a test does the same alone and after others: a generator of a module is for the module itself."""
    wrong = set()
    for path in (HOUSE / "tests").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        shared = {ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign)
                  and isinstance(node.value, ast.Call) and ast.unparse(node.value.func).endswith("default_rng")
                  for target in node.targets}
        wrong |= {f"{path.name}:{node.lineno}" for function in tree.body if isinstance(function, ast.FunctionDef)
                  for node in ast.walk(function) if isinstance(node, ast.Name) and node.id in shared}
    assert not wrong


@pytest.mark.parametrize("code", [
    "start = time.perf_counter()", "from time import monotonic as now\nend = now() + 5", "assert job.seconds < 3",
    "datetime.datetime.now()", "time.time_ns()", "assert facts['seconds'] <= 1", "job.wait(timeout=60)",
    "assert not (a and log.rate > 5)"])
def test_the_reader_of_clocks_sees_every_form_of_one(code):
    """So that the test above cannot pass by not looking."""
    assert clocks_of(ast.parse(code))
    assert not clocks_of(ast.parse("time.sleep(0.1)\nassert job.seconds == 3\njob.wait(timeout=None)\nnow()"))


def test_a_checkpoint_cannot_run_code_and_errors_are_not_assertions():
    """No pickle, no torch.load but of tensors alone, no eval or exec, no assert statement."""
    nodes = [(module, node) for module, tree in TREES.items() for node in ast.walk(tree)]
    tensors = {f"{MODULES[module]}:{node.lineno}" for module, node in nodes if isinstance(node, ast.Call) and any(
        word.arg == "weights_only" and getattr(word.value, "value", False) is True for word in node.keywords)}
    for module, node in nodes:
        where = f"{MODULES[module]}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), where
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {name.split(".")[0] for name in names} & UNSAFE, where
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("torch", "load") or where in tensors
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, where
        if isinstance(node, ast.keyword):
            assert not (node.arg == "allow_pickle" and getattr(node.value, "value", True) is not False), where


def test_the_command_line_prints_through_one_place():
    """`say` escapes what a terminal would obey, wherever a line's text comes from."""
    face = {name: tree for name, tree in TREES.items() if name.startswith(("ornstein.cli", "ornstein.display"))}
    calls = [(name, node.lineno) for name, tree in face.items() for node in ast.walk(tree)
             if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"]
    assert [name for name, _ in calls] == ["ornstein.display"], calls


def test_what_a_module_offers_is_there_and_explained():
    """Every name in `__all__` exists, and every class and function among them says what it does."""
    for module, tree in TREES.items():
        offered = {ast.literal_eval(element) for node in tree.body if isinstance(node, ast.Assign)
                   and [getattr(target, "id", "") for target in node.targets] == ["__all__"]
                   for element in getattr(node.value, "elts", []) if isinstance(element, ast.Constant)}
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name in offered:
                assert ast.get_docstring(node), f"{MODULES[module]}:{node.lineno} {node.name} has no docstring"
        if offered and module not in ("ornstein.__main__",):
            loaded = importlib.import_module(module)
            assert not {name for name in offered if not hasattr(loaded, name)}, module


def test_every_public_name_can_be_had():
    for name in ornstein.__all__:
        getattr(ornstein, name)
    with pytest.raises(AttributeError, match="no attribute 'sampel'"):
        _ = ornstein.sampel


DELETES = {"unlink", "rmdir", "rmtree", "rename", "renames", "removedirs", "symlink_to", "hardlink_to", "mkdir",
           "makedirs", "touch", "truncate", "mkdtemp", "mkstemp", "move"}
WRITES = {"write_text", "write_bytes", "savefig", "savez", "savez_compressed", "save_file", "open", "save"}


def changes_of_the_disk(tree: ast.AST, inside: bool = False) -> list[tuple[int, str]]:
    """(line, name) of every call that deletes or renames, or that writes outside a `with files.replacing(...)`."""
    found = []
    for node in ast.iter_child_nodes(tree):
        here = inside
        if isinstance(node, ast.With):
            here = inside or any(isinstance(item.context_expr, ast.Call) and
                                 getattr(item.context_expr.func, "attr", "") in ("replacing", "filling")
                                 for item in node.items)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            owner = getattr(getattr(node.func, "value", None), "id", "")
            text = [one.value for one in [*node.args, *(word.value for word in node.keywords)]
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            deletes = name in DELETES or (name, owner) in {("replace", "os"), ("remove", "os")} or (
                name == "replace" and len(node.args) == 1 and not node.keywords)
            writes = name in WRITES and not here and (
                name != "open" or any(re.fullmatch(r"[rbt]*[wax+][rbt+]*", one) for one in text))
            if owner != "files" and (deletes or writes):
                found.append((node.lineno, f"{owner}.{name}".strip(".")))
        found += changes_of_the_disk(node, here)
    return found


def test_one_room_alone_writes_renames_and_deletes():
    """What is written elsewhere is written into a place that the room has made, and takes its name when it is whole."""
    allowed = {"ornstein.checkpoint": {"save_file"},  # into a place that its callers have from there
               "ornstein.training.states": {"dcp.save"},  # into a state's folder, which is renamed when it is whole
               "ornstein.evaluation.page": {"image.save"}, "ornstein.studio.job_kinds": {"image.save"},  # into memory
               "ornstein.studio.processes": {"log_path.open"},  # the output of a process that outlives this one
               "ornstein.figures.film": {"av.open"}}  # a place that it has from there
    ours = {"save", "checkpoint.save"}  # which writes by `replacing`
    seen = {name: {what for _, what in changes_of_the_disk(tree)} - allowed.get(name, set()) - ours
            for name, tree in TREES.items() if name != "ornstein.files"}
    assert {name: what for name, what in seen.items() if what} == {}


def test_the_reader_of_changes_sees_every_form_of_one():
    """So that the test above cannot pass by not looking."""
    code = ("path.unlink()\nos.replace(a, b)\npath.replace(b)\nshutil.rmtree(a)\nopen(a, 'w')\npath.open(mode='ab')\n"
            "with open(a, 'wb'):\n    pass\nif a:\n    np.savez(a)\n")
    assert [line for line, _ in changes_of_the_disk(ast.parse(code))] == [1, 2, 3, 4, 5, 6, 7, 10]
    fine = "with files.replacing(a) as b:\n    b.write_bytes(c)\n'a'.replace('b', 'c')\nfiles.remove(a)\nopen(a)\n"
    assert not changes_of_the_disk(ast.parse(fine))
