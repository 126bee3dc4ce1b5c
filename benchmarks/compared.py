"""How long `ornstein compare` takes, and how much memory, by the number of pictures; and what it sees.

    python benchmarks/compared.py --pictures cifar10/train.parquet --counts 2500 10000 25000
    python benchmarks/compared.py --pictures cifar10/train.parquet --counts 200 1000 5000 --repeat 20

Two sets of so many pictures each are taken out of a Parquet file and compared by the command line, in a process of its
own, whose largest resident memory is printed; beside it stands how busy the machine was with other things.

With `--repeat`, so many real pictures are held again and again against others of the same file, once as they are, where
a difference that is shown is a false alarm, and with their contrast lessened, where it is none. Printed is in how many
comparisons each figure shows one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import ornstein as orn
from ornstein.evaluation.classifier import forest_auc_interval

SIDE = 8  # pixels of the pictures that are compared again and again


def main() -> None:
    """Print one line for each number of pictures."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--pictures", type=Path, required=True, help="a Parquet file of pictures")
    reader.add_argument("--counts", type=int, nargs="+", default=[2_500, 10_000])
    reader.add_argument("--repeat", type=int, default=0, help="comparisons of each number; 0: time and memory")
    reader.add_argument("--made", type=int, default=1_000, help="pictures of the other set, with --repeat")
    reader.add_argument("--faded", type=float, nargs="+", default=[0.97, 0.93], help="contrasts, with --repeat")
    reader.add_argument("--trees", type=int, default=50, help="of each forest, with --repeat")
    asked = reader.parse_args()
    if asked.repeat:
        forest_auc_interval.__kwdefaults__["trees"] = asked.trees
        pictures = orn.load_data(str(asked.pictures), size=SIDE).values
        for count in asked.counts:
            print(json.dumps({"real": count, "made": asked.made, "of": asked.repeat, **seen(
                pictures, count, asked.made, asked.faded, asked.repeat)}), flush=True)
        return
    table = pq.read_table(asked.pictures)
    for count in asked.counts:
        with tempfile.TemporaryDirectory() as place:
            pq.write_table(table.slice(0, count), Path(place) / "real.parquet")
            pq.write_table(table.slice(count, count), Path(place) / "made.parquet")
            print(json.dumps({"pictures": count, **measured(Path(place))}), flush=True)


def seen(pictures: np.ndarray, count: int, made: int, faded: list[float], repeat: int) -> dict[str, dict[str, int]]:
    """In how many comparisons each figure shows a difference, for pictures as they are and for faded ones."""
    found = {"same": Counter[str](), **{f"contrast {share:g}": Counter[str]() for share in faded}}
    for number in range(repeat):
        rows = np.random.default_rng(number).permutation(len(pictures))[:count + made]
        real, same = pictures[rows[:count]], pictures[rows[count:]]
        middle = same.mean((1, 2, 3), keepdims=True)
        sets = [same, *(np.rint(middle + share * (same - middle)).astype(np.uint8) for share in faded)]
        report = orn.compare(real, *sets, spaces=["pixels"], names=list(found), seed=number)
        for one in (report, *report.others):
            shown = {measure.key for measure in one.measures if measure.differs}
            found[one.name].update(shown | ({"any"} if shown else set()))
    return {name: dict(sorted(shown.items())) for name, shown in found.items()}


def measured(place: Path) -> dict[str, float]:
    """Minutes, MiB and load of one comparison; the child is measured, which has no children that are larger."""
    load, started = os.getloadavg()[0], time.perf_counter()
    words = [sys.executable, "-m", "ornstein", "compare", "real.parquet", "made.parquet", "--out", "report"]
    subprocess.run(words, cwd=place, env=os.environ | {"ORNSTEIN_CACHE": str(place / "cache")}, check=True,
                   stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads((place / "report/report.json").read_text("utf-8"))
    return {"minutes": round((time.perf_counter() - started) / 60, 2),
            "largest MiB so far": round(used.ru_maxrss / 1024),
            "processor minutes so far": round((used.ru_utime + used.ru_stime) / 60, 2), "load before": round(load, 1),
            **report["seconds"]}


if __name__ == "__main__":
    main()
