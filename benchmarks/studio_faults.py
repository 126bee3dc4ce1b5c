"""Faults that the studio survives: kills, stalling clients, a full disk, damaged databases, and thousands of jobs.

    python benchmarks/studio_faults.py RUN --rows kill stalls disk database soak
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import random
import shutil
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
from PIL import Image
from studio import Server, probe

JOBS, BODY = 50, {"kind": "generate", "nfe": 100, "count": 4}
HALF_OPEN, DEADLINE = 500, 30.0  # connections, and seconds to wait for their end
ROUNDS, ROUND_JOBS = 10, 500


def http(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60)


def wait_for_jobs(client: httpx.Client, ids: list[str], seconds: float = 300) -> list[dict]:
    """Wait until all jobs have ended, and return them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        jobs = [client.get(f"/api/jobs/{id}").json() for id in ids]
        if all(job["status"] in ("done", "failed", "cancelled") for job in jobs):
            return jobs
        time.sleep(0.5)
    raise RuntimeError(f"{sum(job['status'] in ('queued', 'running') for job in jobs)} jobs have not ended")


def kill(server: Server) -> dict:
    """SIGKILL of the studio during 50 jobs and a training, then of the studio and the training, as in a power failure.
    """
    with http(server) as client:
        training = client.post("/api/trainings", json={"name": "t", "data": "digits", "minutes": 1.5}).json()["id"]

        def state() -> dict:
            return client.get(f"/api/trainings/{training}").json()

        def count_points() -> int:
            return len(client.get(f"/api/trainings/{training}/metrics").json()["points"])

        def wait_for_progress() -> None:
            before = count_points()
            while count_points() <= before:
                if state()["status"] in ("failed", "done"):
                    raise RuntimeError(f"the training has ended too early: {state()['error']}")
                time.sleep(0.3)

        wait_for_progress()
        ids = [client.post("/api/jobs", json=BODY | {"seed": seed}, headers={"X-Client": f"c{seed % 8}"}).json()["id"]
               for seed in range(JOBS)]
        while client.get(f"/api/jobs/{ids[0]}").json()["progress"] < 0.3:
            time.sleep(0.05)
        trainer = next(process for process in psutil.process_iter(["cmdline"])
                       if "train" in (process.info["cmdline"] or ())
                       and any(training in word for word in process.info["cmdline"]))
        server.end(signal.SIGKILL)
        pictures = server.folder / "data" / "pictures"
        done = sum(1 for _ in pictures.rglob("00003.png"))
        first_restart = server.start()
        is_same = state()["status"] == "running" and trainer.is_running()
        jobs = wait_for_jobs(client, ids)
        wait_for_progress()
        server.end(signal.SIGKILL)
        trainer.kill()
        trainer.wait()
        second_restart = server.start()
        wait_for_progress()
        while state()["status"] not in ("done", "failed"):
            time.sleep(1)
        sound = sum(not _is_torn(path) for path in pictures.rglob("*.png"))
        return {"jobs": len(ids), "of them on disk at the kill": done, "lost": sum(
                    job["status"] != "done" for job in jobs), "pictures": sound, "wanted": 4 * JOBS,
                "in the gallery": client.get("/api/gallery?limit=1").json()["total"],
                "up again s": [round(first_restart, 2), round(second_restart, 2)], "the same process trains": is_same,
                "training, killed too, at the end": state()["status"]}


def stalls(server: Server) -> dict:
    """Clients that send half a head or a byte per second, and the delays of others meanwhile."""
    delays, stop = list[float](), threading.Event()

    def health_delay(seconds: float) -> float:
        delays.clear()
        stop.clear()
        prober = threading.Thread(target=probe, args=(server.url, delays, stop))
        prober.start()
        time.sleep(seconds)
        stop.set()
        prober.join()
        return round(1000 * float(np.percentile(delays, 99)), 1)

    before = health_delay(5)
    address, started = ("127.0.0.1", server.port), time.monotonic()
    half_open = [socket.create_connection(address) for _ in range(HALF_OPEN)]
    for connection in half_open:
        connection.sendall(b"GET /api/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX")
        connection.setblocking(False)
    slow = socket.create_connection(address)
    slow.sendall(b"POST /api/files HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 1000\r\n\r\n" % server.port)
    slow.setblocking(False)
    during = health_delay(5)
    closed, slow_closed = list[float](), None
    while (half_open or slow_closed is None) and time.monotonic() - started < DEADLINE:
        still_open = [connection for connection in half_open if not _is_closed(connection)]
        closed += [time.monotonic() - started] * (len(half_open) - len(still_open))
        half_open = still_open
        if slow_closed is None:
            try:
                slow.send(b"x")
            except (BrokenPipeError, ConnectionResetError):
                slow_closed = round(time.monotonic() - started, 1)
        time.sleep(1)
    return {"half-open": HALF_OPEN, "closed": len(closed), "the last after s": round(max(closed, default=0), 1),
            "a byte a second closed after s": slow_closed, "health p99 ms before and beside": [before, during]}


def _is_closed(connection: socket.socket) -> bool:
    try:
        if connection.recv(65536):
            return False
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    connection.close()
    return True


def disk(run: Path) -> dict:
    """A studio whose disk, a small tmpfs, fills up: no torn files, clear errors, and recovery once there is space."""
    with tempfile.TemporaryDirectory() as mount:
        folder = Path(mount)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", mount], check=True)
        server = Server(run, folder)
        try:
            server.start()
            with http(server) as client:
                statuses, jobs, error = collections.Counter[int](), list[str](), {}
                for seed in range(400):
                    response = client.post("/api/jobs", json={"kind": "generate", "count": 64, "nfe": 1, "seed": seed})
                    statuses[response.status_code] += 1
                    if response.status_code == 202:
                        jobs.append(response.json()["id"])
                    else:
                        error = response.json()
                    time.sleep(0.3)
                    if _count_active(client, jobs) >= 20 or statuses[507] >= 5:
                        break
                health, active = client.get("/healthz").status_code, _count_active(client, jobs)
                torn = sum(_is_torn(path) for path in (folder / "data" / "pictures").rglob("*.png"))
                upload = client.post("/api/files", content=_png())
                subprocess.run(["mount", "-o", "remount,size=64m", mount], check=True)
                started = time.monotonic()
                ends = {job["status"] for job in wait_for_jobs(client, jobs)}
                result = {"answers": statuses, "a refusal": error, "an upload": [upload.status_code, upload.json()],
                          "health": health, "jobs that wait for room": active, "torn": torn,
                          "with room again": sorted(ends), "after s": round(time.monotonic() - started, 1)}
            server.end()
            return result
        finally:
            if server.process.poll() is None:
                server.end(signal.SIGKILL)
            subprocess.run(["umount", mount], check=True)


def _count_active(client: httpx.Client, ids: list[str]) -> int:
    """The number of jobs that have not ended."""
    statuses = {job["id"]: job["status"] for job in client.get("/api/jobs?limit=100").json()["jobs"]}
    return sum(statuses.get(id) in ("queued", "running") for id in ids)


def _png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def _is_torn(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return True
    return False


def database(server: Server, damages: int = 40) -> dict:
    """Damaged or truncated databases: each opens or is refused with a one-line error, and can be rebuilt."""
    with http(server) as client:
        ids = [client.post("/api/jobs", json=BODY | {"seed": seed, "nfe": 2}).json()["id"] for seed in range(20)]
        wait_for_jobs(client, ids)
        expected = {picture["id"] for picture in client.get("/api/gallery?limit=100").json()["pictures"]}
    server.end()
    from ornstein.studio.rebuild import rebuild
    from ornstein.studio.state import Studio
    from ornstein.studio.tables import pictures
    generator, folder = random.Random(0), server.folder / "data"
    counts = {"opens": 0, "refused in a line": 0, "else": 0, "not whole again": 0}
    original = (folder / "studio.sqlite").read_bytes()
    for number in range(damages):
        content = bytearray(original)
        if number % 4 == 0:
            content = content[:generator.randrange(len(content))]
        else:
            first = generator.randrange(len(content))
            damaged = slice(first, first + (1, 100, 4096)[number % 4 - 1])
            content[damaged] = generator.randbytes(len(content[damaged]))
        for path in folder.glob("studio.sqlite*"):
            path.unlink()
        (folder / "studio.sqlite").write_bytes(content)
        try:
            studio = Studio(None, folder)
            studio.store.close()
            studio.batcher.close()
            counts["opens"] += 1
        except ValueError as error:
            counts["refused in a line" if "--rebuild" in str(error) and "\n" not in str(error) else "else"] += 1
        except Exception as error:
            counts["else"] += 1
            print(repr(error), file=sys.stderr)
        rebuild(folder)
        studio = Studio(None, folder)
        counts["not whole again"] += {row["id"] for row in studio.store.select(pictures)} != expected
        studio.store.close()
        studio.batcher.close()
    return {"damages": damages, **counts, "pictures": len(expected)}


def soak(server: Server) -> dict:
    """Ten rounds of 500 jobs: memory, threads and open files after each."""
    process, rows = psutil.Process(server.process.pid), []

    def run_client(name: str, seeds: range) -> None:
        with http(server) as client:
            for first in range(seeds.start, seeds.stop, 20):
                bodies = [{"kind": "generate", "count": 1 + seed % 4, "nfe": 2, "seed": seed}
                          for seed in range(first, first + 20)]
                ids = [client.post("/api/jobs", json=body, headers={"X-Client": name}).json()["id"] for body in bodies]
                if any(job["status"] != "done" for job in wait_for_jobs(client, ids)):
                    raise RuntimeError("a job was lost")

    clients = 5
    seeds = ROUND_JOBS // clients
    for number in range(ROUNDS):
        started = time.monotonic()
        starts = [(clients * number + index) * seeds for index in range(clients)]
        threads = [threading.Thread(target=run_client, args=(f"c{index}", range(start, start + seeds)))
                   for index, start in enumerate(starts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows.append((round(process.memory_info().rss / 2**20), process.num_threads(), process.num_fds()))
        print(rows[-1], round(time.monotonic() - started, 1), file=sys.stderr, flush=True)
    return {"jobs": ROUNDS * ROUND_JOBS, "MiB, threads, files after each round": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", nargs="+", default=["kill", "stalls", "disk", "database", "soak"])
    arguments = parser.parse_args()
    for row in arguments.rows:
        if row == "disk":
            result = disk(arguments.run)
        else:
            folder = Path(tempfile.mkdtemp())
            server = Server(arguments.run, folder)
            server.start()
            try:
                result = {"kill": kill, "stalls": stalls, "database": database, "soak": soak}[row](server)
            finally:
                if server.process.poll() is None:
                    server.end()
                shutil.rmtree(folder)
        print(json.dumps({"row": row, "load": round(os.getloadavg()[0], 1), **result}), flush=True)


if __name__ == "__main__":
    main()
