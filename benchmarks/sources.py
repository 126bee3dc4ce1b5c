"""How fast each source is opened, opened again, and read: `python benchmarks/sources.py PICTURES.parquet [ROWS]`."""

import io
import itertools
import json
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np

SHARDS, BATCH, SECONDS = 10, 128, 2.0
TRAINED = 20.0  # seconds of training, start-up included, over which waiting is measured


def contents(source: str, rows: int) -> list[tuple[bytes, int]]:
    """Bytes and label of the first rows of a parquet file with the columns image and label."""
    import pyarrow.parquet as pq

    table = pq.read_table(source).slice(0, rows)
    pictures = table.column("image").combine_chunks().field("bytes").to_pylist()
    return list(zip(pictures, table.column("label").to_pylist(), strict=True))


def write_folder(folder: Path, samples: list[tuple[bytes, int]]) -> Path:
    """One file a picture, one folder a class."""
    for number, (content, label) in enumerate(samples):
        kind = "png" if content.startswith(b"\x89PNG") else "jpg"
        path = folder / str(label) / f"{number:06d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_shards(folder: Path, samples: list[tuple[bytes, int]]) -> str:
    """Tar shards of pictures and labels."""
    folder.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:03d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(shard, len(samples), SHARDS):
                for suffix, content in (("jpg", samples[number][0]), ("cls", str(samples[number][1]).encode())):
                    member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return str(folder / f"{{000..{SHARDS - 1:03d}}}.tar")


def rate(batches) -> float:
    """Rows a second over some seconds, after one batch."""
    batches = iter(batches)
    next(batches)
    start, rows = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < SECONDS:
        rows += len(next(batches)[0])
    return rows / spent


def waiting(source: str, reader: str, out: Path) -> tuple[float, float]:
    """Share of the time of a training's steps that it waits for data, and pictures a second."""
    import ornstein as orn

    orn.Trainer(source, minutes=TRAINED / 60, out=out, settings=orn.Settings(reader=reader)).fit()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [(now["waited"] - before["waited"], now["seconds"] - before["seconds"], now["images"] - before["images"])
             for before, now in itertools.pairwise(lines) if now["images_per_second"]]
    waited, seconds, images = (sum(column) for column in zip(*steps, strict=True))
    return waited / seconds, images / seconds


def main() -> None:
    """Print one row of a table for each source."""
    from ornstein.data import load_data
    from ornstein.data.stream import stream

    samples = contents(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 50_000)
    rng = np.random.default_rng(0)
    print(f"{len(samples):,} pictures, {len(os.sched_getaffinity(0))} cores; rows are read in random order, "
          f"{BATCH} at a time, and encoded")
    print("| source | first open, s | rows/s | second open, s | batches, rows/s | stream() of the cache, rows/s "
          "| stream() decoding, rows/s | training waits, cache | training waits, decoding |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        os.environ["ORNSTEIN_CACHE"] = str(Path(place, "cache"))
        sources = {"parquet": sys.argv[1], "folder": write_folder(Path(place, "folder"), samples),
                   "tar shards": write_shards(Path(place, "shards"), samples)}
        for name, source in sources.items():
            start = time.perf_counter()
            data = load_data(source)
            first = time.perf_counter() - start
            start = time.perf_counter()
            data = load_data(source)
            data.digest()
            second = time.perf_counter() - start
            random = (data.batch(rng.integers(0, len(data), BATCH)) for _ in itertools.count())
            lazy = load_data(source, reader="stream")
            rates = [rate(random), rate(stream(data, 0, BATCH)), rate(stream(lazy, 0, BATCH))]
            shares = [waiting(source, reader, Path(place, f"{name}-{reader}")) for reader in ("cache", "stream")]
            print(f"| {name} | {first:.1f} | {len(data) / first:,.0f} | {second:.2f} | "
                  f"{' | '.join(f'{one:,.0f}' for one in rates)} | "
                  f"{' | '.join(f'{share:.1%} at {speed:,.0f}/s' for share, speed in shares)} |", flush=True)


if __name__ == "__main__":
    main()
