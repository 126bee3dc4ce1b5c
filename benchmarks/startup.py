"""Start-up: `ornstein --help` against a bare interpreter, `import ornstein` against `import torch`; medians."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(*words: str) -> float:
    """Wall clock of one run of this interpreter."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    """Interleave the runs, so that a slow moment of the machine meets all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    jobs = {"bare": ("-c", "pass"), "help": ("-m", "ornstein", "--help"), "torch": ("-c", "import torch"),
            "ornstein": ("-c", "import ornstein"),
            "all": ("-c", "import ornstein\nfor name in ornstein.__all__: getattr(ornstein, name)")}
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(runs):
        for name, words in jobs.items():
            times[name].append(seconds(*words))
    middle = {name: statistics.median(values) for name, values in times.items()}
    print(f"ornstein --help   {middle['help'] / middle['bare']:5.1f} x python -c pass    (at most 20)")
    print(f"import ornstein   {middle['ornstein'] / middle['torch']:5.2f} x import torch      (at most 1.3)")
    print(f"every public name {middle['all'] / middle['torch']:5.2f} x import torch")


if __name__ == "__main__":
    main()
