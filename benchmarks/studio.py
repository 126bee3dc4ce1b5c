"""The studio under load from a second process: lost and wrong jobs, throughput, health checks, previews, a kill midway.

    python benchmarks/studio.py RUN --jobs 1000
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch
from PIL import Image

import ornstein as orn
from ornstein.figures.pictures import file_pixels
from ornstein.request import Request

CLIENTS = 64
FULL = 128  # samples drawn to measure the offline rate: two full calls
COUNTS, CALLS, SAMPLERS = (1, 4, 16, 64), (4, 6, 8, 10, 20, 50), ("auto", "ddim", "dpm++", "heun", "sa", "unipc")


def make_jobs(count: int, counts: tuple[int, ...], calls: tuple[int, ...], classes: list[str]) -> list[dict]:
    """A fixed mix of many kinds of jobs, one in six of them a fill."""
    generator = random.Random(0)
    jobs = []
    for seed in range(count):
        job = {"count": generator.choice(counts), "nfe": generator.choice(calls), "seed": seed}
        options = {"sampler": generator.choice(SAMPLERS), "label": generator.choice([None, *classes]),
                   "guidance": generator.choice([None, None, 2.0])}
        is_fill = not generator.randrange(6)
        jobs.append({"kind": "fill", **job} if is_fill else {"kind": "generate", **job, **options})
    return jobs


class Library:
    """The library without the studio."""

    def __init__(self, model: orn.NetworkDenoiser) -> None:
        self.model = model
        self.x = Request(1, seed=10**6).draw(model)
        self.known = torch.arange(model.shape[-1]) < model.shape[-1] // 2

    def files(self) -> dict[str, bytes]:
        """A picture and a mask of its right half, for fills."""
        mask = np.broadcast_to(np.where(self.known.numpy(), 0, 255), self.model.shape[1:]).astype(np.uint8)
        contents = {}
        for name, values in (("picture", file_pixels(self.model.data, self.x)[0]), ("mask", mask)):
            file = io.BytesIO()
            Image.fromarray(values).save(file, "PNG")
            contents[name] = file.getvalue()
        return contents

    def draw(self, job: dict, copies: int = 1) -> torch.Tensor:
        """The samples of several copies of a job."""
        if job["kind"] == "fill":
            values = np.moveaxis(file_pixels(self.model.data, self.x)[0], -1, 0)[None, :self.model.shape[0]] / 255
            low, high = (float(end.min()) for end in self.model.data.extent)
            x = self.model.data.encode(low + values * (high - low))
            return orn.inpaint(self.model, x.expand(copies, *x.shape[1:]), self.known, job["count"], nfe=job["nfe"],
                               seed=job["seed"])
        return Request(job["count"] * copies, job["label"], guidance=job["guidance"], seed=job["seed"],
                       sampler=job["sampler"], nfe=job["nfe"]).draw(self.model)

    def offline_seconds(self, jobs: list[dict]) -> float:
        """The time of the jobs in full calls, from the rate of each kind, sampler, budget and guidance."""
        seconds, groups = 0.0, dict[tuple, list[dict]]()
        for job in jobs:
            groups.setdefault(tuple(job.get(name) for name in ("kind", "sampler", "nfe", "guidance")), []).append(job)
        for group in groups.values():
            copies = FULL // 64
            started = time.monotonic()
            self.draw({**group[0], "count": FULL // copies}, copies)
            seconds += (time.monotonic() - started) * sum(job["count"] for job in group) / FULL
        return seconds


class Server:
    """A studio in a process of its own."""

    def __init__(self, run: Path, folder: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.run, self.folder, self.url = run, folder, f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Start the studio and return the seconds until it responds."""
        started = time.monotonic()
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ornstein", "studio", str(self.run), "--port", str(self.port), "--folder",
                 str(self.folder / "data")], stdout=log, stderr=log)
        while True:
            try:
                httpx.get(f"{self.url}/healthz", timeout=1)
                return time.monotonic() - started
            except httpx.HTTPError:
                time.sleep(0.05)

    @property
    def memory(self) -> float:
        """Resident memory in MiB."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def end(self, signal_number: int = signal.SIGTERM) -> None:
        self.process.send_signal(signal_number)
        self.process.wait()


async def run_client(http: httpx.AsyncClient, name: str, jobs: list[dict], done: list[tuple[dict, str]],
                     refused: list[int]) -> None:
    """Submit jobs one after another, and again when they are refused or the server is down."""
    for job in jobs:
        id = None
        while id is None:
            try:
                response = await http.post("/api/jobs", json=job, headers={
                    "X-Client": name, "Idempotency-Key": f"{job['seed']}"})
                if response.status_code in (429, 503):
                    refused.append(response.status_code)
                    await asyncio.sleep(float(response.headers["Retry-After"]))
                    continue
                id = response.raise_for_status().json()["id"]
            except httpx.TransportError:
                await asyncio.sleep(0.2)
        while True:
            try:
                async with http.stream("GET", f"/api/jobs/{id}/events?previews=false") as stream:
                    async for line in stream.aiter_lines():
                        if line.startswith(("event: done", "event: failed", "event: cancelled")):
                            break
                    else:
                        raise httpx.ReadError("the stream has ended")
                done.append((job, id))
                break
            except httpx.TransportError:
                await asyncio.sleep(0.2)


def probe(url: str, delays: list[float], stop: threading.Event) -> None:
    """Check health continuously, on a connection of its own, and record the delays."""
    with httpx.Client(base_url=url, timeout=60) as http:
        while not stop.wait(0.05):
            started = time.monotonic()
            try:
                http.get("/healthz")
                delays.append(time.monotonic() - started)
            except httpx.TransportError:
                pass


async def load(server: Server, jobs: list[dict], kill: bool) -> dict:
    """Run all jobs from many clients; with `kill` the server is killed midway and started again."""
    done, refused, delays = list[tuple[dict, str]](), list[int](), list[float]()
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=server.url, timeout=600, limits=limits) as http:
        started = time.monotonic()
        stop = threading.Event()
        prober = threading.Thread(target=probe, args=(server.url, delays, stop))
        prober.start()
        before = (await http.get("/api/gallery?limit=1")).json()["total"]
        tasks = [asyncio.create_task(run_client(http, f"client {number}", jobs[number::CLIENTS], done, refused))
                 for number in range(CLIENTS)]
        restart_seconds = None
        if kill:
            while len(done) < len(jobs) // 3:
                await asyncio.sleep(0.05)
            server.end(signal.SIGKILL)
            restart_seconds = await asyncio.to_thread(server.start)
        await asyncio.gather(*tasks)
        seconds = time.monotonic() - started
        stop.set()
        prober.join()
        states = [(await http.get(f"/api/jobs/{id}")).json() for _, id in done]
        after = (await http.get("/api/gallery?limit=1")).json()["total"]
        lines = (await http.get("/metrics")).text.splitlines()
    metrics = {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}
    return {"seconds": seconds, "again": restart_seconds, "refused": len(refused), "ids": done,
            "lost": len(jobs) - sum(state["status"] == "done" for state in states),
            "twice": after - before - sum(job["count"] for job in jobs),
            "health p99 ms": 1000 * float(np.percentile(delays, 99)), "health max ms": 1000 * max(delays),
            "rows filled": metrics["ornstein_network_rows_filled"] / max(metrics["ornstein_network_rows"], 1)}


def count_wrong(server: Server, library: Library, ids: list[tuple[dict, str]], every: int) -> tuple[int, int]:
    """The number of pictures that differ from the library's, and the number compared."""
    wrong = compared = 0
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for job, id in sorted(ids, key=lambda item: item[0]["seed"])[::every]:
            expected = file_pixels(library.model.data, library.draw(job))
            for number, values in enumerate(expected):
                with Image.open(io.BytesIO(http.get(f"/api/jobs/{id}/samples/{number}.png").content)) as image:
                    wrong += not np.array_equal(np.array(image), values)
                compared += 1
    return wrong, compared


async def preview_delays(server: Server, classes: list[str]) -> list[float]:
    """Seconds to the first preview of each of 8 simultaneous jobs."""
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as http:
        async def delay(seed: int) -> float:
            started = time.monotonic()
            body = {"kind": "generate", "count": 4, "nfe": 50, "seed": seed, "label": classes[0]}
            id = (await http.post("/api/jobs", json=body)).json()["id"]
            async with http.stream("GET", f"/api/jobs/{id}/events") as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("event: preview"):
                        break
            return time.monotonic() - started
        return list(await asyncio.gather(*(delay(seed) for seed in range(8))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--every", type=int, default=1, help="compare every n-th job with the library's")
    parser.add_argument("--kill", action="store_true", help="kill the server midway and start it again")
    arguments = parser.parse_args()
    library = Library(orn.load(arguments.run))
    classes = list(library.model.data.classes)
    jobs = make_jobs(arguments.jobs, tuple(arguments.counts), tuple(arguments.calls), classes)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(arguments.run, Path(folder))
        rows: dict = {"jobs": len(jobs), "samples": sum(job["count"] for job in jobs), "load": os.getloadavg()[0],
                      "start s": server.start()}
        try:
            httpx.get(f"{server.url}/api/models", timeout=60)  # loads the model
            rows["first preview s"] = sorted(round(delay, 2) for delay in asyncio.run(preview_delays(server, classes)))
            uploads = {name: httpx.post(f"{server.url}/api/files", content=content).json()["id"]
                       for name, content in library.files().items()}
            bodies = [job | uploads if job["kind"] == "fill" else job for job in jobs]
            before = library.offline_seconds(jobs)
            result = asyncio.run(load(server, bodies, arguments.kill))
            after = library.offline_seconds(jobs)
            subset = jobs[:: max(1, len(jobs) // 40)]
            started = time.monotonic()
            for job in subset:
                library.draw(job)
            alone = (time.monotonic() - started) * len(jobs) / len(subset)
            ids = result.pop("ids")
            rows |= result | {"offline s": [before, after], "alone s": alone, "memory MiB": server.memory,
                              "of offline": (before + after) / 2 / result["seconds"],
                              "of alone": alone / result["seconds"]}
            rows["wrong"], rows["compared"] = count_wrong(server, library, ids, arguments.every)
        finally:
            server.end()
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    torch.set_num_threads(max(1, torch.get_num_threads()))
    main()
