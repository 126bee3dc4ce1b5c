"""The studio under load, from a second process: jobs lost and wrong, throughput, health, previews, a kill midway.

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
from ornstein.figures.pictures import single
from ornstein.request import Request

CLIENTS = 64
FULL = 128  # samples of full calls, two on each of two cores, by which the rate offline is measured
COUNTS, CALLS, RULES = (1, 4, 16, 64), (4, 6, 8, 10, 20, 50), ("auto", "ddim", "dpm++", "heun", "sa", "unipc")


def mix(jobs: int, counts: tuple[int, ...], calls: tuple[int, ...], classes: list[str]) -> list[dict]:
    """Jobs of many kinds, one in six of them a fill, the same for the same number."""
    draw = random.Random(0)
    mixed = []
    for number in range(jobs):
        job = {"count": draw.choice(counts), "nfe": draw.choice(calls), "seed": number}
        more = {"sampler": draw.choice(RULES), "label": draw.choice([None, *classes]),
                "guidance": draw.choice([None, None, 2.0])}
        mixed.append({"kind": "fill", **job} if not draw.randrange(6) else {"kind": "generate", **job, **more})
    return mixed


class Alone:
    """The library itself, without a service."""

    def __init__(self, model: orn.NetworkDenoiser) -> None:
        self.model = model
        self.x = Request(1, seed=10**6).draw(model)
        self.known = torch.arange(model.shape[-1]) < model.shape[-1] // 2

    def files(self) -> dict[str, bytes]:
        """A picture whose right half is to be filled, and that mask."""
        hole = np.broadcast_to(np.where(self.known.numpy(), 0, 255), self.model.shape[1:]).astype(np.uint8)
        found = {}
        for name, values in (("picture", single(self.model.data, self.x)[0]), ("mask", hole)):
            file = io.BytesIO()
            Image.fromarray(values).save(file, "PNG")
            found[name] = file.getvalue()
        return found

    def draw(self, job: dict, times: int = 1) -> torch.Tensor:
        """The samples of a job, or so many times as many for what they cost."""
        if job["kind"] == "fill":
            values = np.moveaxis(single(self.model.data, self.x)[0], -1, 0)[None, :self.model.shape[0]] / 255
            least, most = (float(end.min()) for end in self.model.data.extent)
            x = self.model.data.encode(least + values * (most - least))
            return orn.inpaint(self.model, x.expand(times, *x.shape[1:]), self.known, job["count"], nfe=job["nfe"],
                               seed=job["seed"])
        return Request(job["count"] * times, job["label"], guidance=job["guidance"], seed=job["seed"],
                       sampler=job["sampler"], nfe=job["nfe"]).draw(self.model)

    def full(self, jobs: list[dict]) -> float:
        """Seconds that the mix would take in full calls, by the rate of each kind, rule, budget and guidance."""
        seconds, groups = 0.0, dict[tuple, list[dict]]()
        for job in jobs:
            groups.setdefault(tuple(job.get(name) for name in ("kind", "sampler", "nfe", "guidance")), []).append(job)
        for group in groups.values():
            times = FULL // 64
            began = time.monotonic()
            self.draw({**group[0], "count": FULL // times}, times)
            seconds += (time.monotonic() - began) * sum(job["count"] for job in group) / FULL
        return seconds


class Server:
    """A studio in a process of its own."""

    def __init__(self, run: Path, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.run, self.folder, self.url = run, folder, f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        began = time.monotonic()
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ornstein", "studio", str(self.run), "--port", str(self.port), "--folder",
                 str(self.folder / "data")], stdout=log, stderr=log)
        while True:
            try:
                httpx.get(f"{self.url}/healthz", timeout=1)
                return time.monotonic() - began
            except httpx.HTTPError:
                time.sleep(0.05)

    @property
    def memory(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def end(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait()


async def client(http: httpx.AsyncClient, name: str, jobs: list[dict], done: list[tuple[dict, str]],
                 refused: list[int]) -> None:
    """One client: the next job when the last has ended, asked again where it is refused or the server is away."""
    for job in jobs:
        id = None
        while id is None:
            try:
                answer = await http.post("/api/jobs", json=job, headers={
                    "X-Client": name, "Idempotency-Key": f"{job['seed']}"})
                if answer.status_code in (429, 503):
                    refused.append(answer.status_code)
                    await asyncio.sleep(float(answer.headers["Retry-After"]))
                    continue
                id = answer.raise_for_status().json()["id"]
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


def probe(url: str, waits: list[float], over: threading.Event) -> None:
    """Ask for health all the time, in a thread of its own with a connection of its own."""
    with httpx.Client(base_url=url, timeout=60) as http:
        while not over.wait(0.05):
            began = time.monotonic()
            try:
                http.get("/healthz")
                waits.append(time.monotonic() - began)
            except httpx.TransportError:
                pass


async def load(server: Server, jobs: list[dict], kill: bool) -> dict:
    """All jobs from so many clients; with `kill` the server is killed in the middle and started again."""
    done, refused, waits = list[tuple[dict, str]](), list[int](), list[float]()
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=server.url, timeout=600, limits=limits) as http:
        began = time.monotonic()
        over = threading.Event()
        watch = threading.Thread(target=probe, args=(server.url, waits, over))
        watch.start()
        before = (await http.get("/api/gallery?limit=1")).json()["total"]
        tasks = [asyncio.create_task(client(http, f"client {number}", jobs[number::CLIENTS], done, refused))
                 for number in range(CLIENTS)]
        again = None
        if kill:
            while len(done) < len(jobs) // 3:
                await asyncio.sleep(0.05)
            server.end(signal.SIGKILL)
            again = await asyncio.to_thread(server.start)
        await asyncio.gather(*tasks)
        seconds = time.monotonic() - began
        over.set()
        watch.join()
        states = [(await http.get(f"/api/jobs/{id}")).json() for _, id in done]
        gallery = (await http.get("/api/gallery?limit=1")).json()["total"]
        counters = (await http.get("/metrics")).text
    numbers = {line.split()[0]: float(line.split()[1]) for line in counters.splitlines() if not line.startswith("#")}
    return {"seconds": seconds, "again": again, "refused": len(refused), "ids": done,
            "lost": len(jobs) - sum(state["status"] == "done" for state in states),
            "twice": gallery - before - sum(job["count"] for job in jobs),
            "health p99 ms": 1000 * float(np.percentile(waits, 99)), "health max ms": 1000 * max(waits),
            "rows filled": numbers["ornstein_network_rows_filled"] / max(numbers["ornstein_network_rows"], 1)}


def wrong(server: Server, library: Alone, ids: list[tuple[dict, str]], every: int) -> tuple[int, int]:
    """Pictures that are not the ones that the library draws alone, of so many."""
    bad = seen = 0
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for job, id in sorted(ids, key=lambda one: one[0]["seed"])[::every]:
            alone = single(library.model.data, library.draw(job))
            for number, values in enumerate(alone):
                with Image.open(io.BytesIO(http.get(f"/api/jobs/{id}/samples/{number}.png").content)) as image:
                    bad += not np.array_equal(np.array(image), values)
                seen += 1
    return bad, seen


async def previews(server: Server, classes: list[str]) -> list[float]:
    """Seconds to the first preview of 8 jobs at once."""
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as http:
        async def one(number: int) -> float:
            began = time.monotonic()
            body = {"kind": "generate", "count": 4, "nfe": 50, "seed": number, "label": classes[0]}
            id = (await http.post("/api/jobs", json=body)).json()["id"]
            async with http.stream("GET", f"/api/jobs/{id}/events") as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("event: preview"):
                        break
            return time.monotonic() - began
        return list(await asyncio.gather(*(one(number) for number in range(8))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS)
    parser.add_argument("--every", type=int, default=1, help="how many of the jobs are drawn alone and compared")
    parser.add_argument("--kill", action="store_true")
    asked = parser.parse_args()
    library = Alone(orn.load(asked.run))
    classes = list(library.model.data.classes)
    jobs = mix(asked.jobs, tuple(asked.counts), tuple(asked.calls), classes)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(asked.run, Path(folder))
        rows: dict = {"jobs": len(jobs), "samples": sum(job["count"] for job in jobs), "load": os.getloadavg()[0],
                      "start s": server.start()}
        try:
            httpx.get(f"{server.url}/api/models", timeout=60)  # which loads the model
            rows["first preview s"] = sorted(round(one, 2) for one in asyncio.run(previews(server, classes)))
            ids = {name: httpx.post(f"{server.url}/api/files", content=content).json()["id"]
                   for name, content in library.files().items()}
            before = library.full(jobs)
            found = asyncio.run(load(server, [job | ids if job["kind"] == "fill" else job for job in jobs], asked.kill))
            after = library.full(jobs)
            few = jobs[:: max(1, len(jobs) // 40)]
            began = time.monotonic()
            for job in few:
                library.draw(job)
            alone = (time.monotonic() - began) * len(jobs) / len(few)
            ids = found.pop("ids")
            rows |= found | {"offline s": [before, after], "alone s": alone, "memory MiB": server.memory,
                             "of offline": (before + after) / 2 / found["seconds"],
                             "of alone": alone / found["seconds"]}
            rows["wrong"], rows["compared"] = wrong(server, library, ids, asked.every)
        finally:
            server.end()
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    torch.set_num_threads(max(1, torch.get_num_threads()))
    main()
