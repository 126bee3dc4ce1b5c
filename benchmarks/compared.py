"""How long `ornstein compare` takes, and how much memory, by the number of pictures.

    python benchmarks/compared.py --pictures cifar10/train.parquet --counts 2500 10000 25000

Two sets of so many pictures each are taken out of a Parquet file and compared by the command line, in a process of its
own, whose largest resident memory is printed; beside it stands how busy the machine was with other things.
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
from pathlib import Path

import pyarrow.parquet as pq


def main() -> None:
    """Print one line for each number of pictures."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--pictures", type=Path, required=True, help="a Parquet file of pictures")
    reader.add_argument("--counts", type=int, nargs="+", default=[2_500, 10_000])
    asked = reader.parse_args()
    table = pq.read_table(asked.pictures)
    for count in asked.counts:
        with tempfile.TemporaryDirectory() as place:
            pq.write_table(table.slice(0, count), Path(place) / "real.parquet")
            pq.write_table(table.slice(count, count), Path(place) / "made.parquet")
            print(json.dumps({"pictures": count, **measured(Path(place))}), flush=True)


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
