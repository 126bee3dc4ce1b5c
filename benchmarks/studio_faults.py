"""What the studio survives: a kill among jobs and a training, stalling clients, a full disk, damaged databases, a soak.

    python benchmarks/studio_faults.py RUN --rows kill stalls disk database soak
"""

from __future__ import annotations

import argparse
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

JOBS, ASKED = 50, {"kind": "generate", "nfe": 100, "count": 4}
HALF, DEADLINE = 500, 30.0
ROUNDS, ROUND = 10, 500


def http(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60)


def ended(client: httpx.Client, ids: list[str], seconds: float = 300) -> list[dict]:
    """The jobs, when all of them have ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = [client.get(f"/api/jobs/{id}").json() for id in ids]
        if all(one["status"] in ("done", "failed", "cancelled") for one in found):
            return found
        time.sleep(0.5)
    raise RuntimeError(f"{sum(one['status'] in ('queued', 'running') for one in found)} jobs have not ended")


def kill(server: Server) -> dict:
    """SIGKILL of the studio among 50 jobs and a training, then of the studio and the training, as when power fails."""
    with http(server) as client:
        training = client.post("/api/trainings", json={"name": "t", "data": "digits", "minutes": 1.5}).json()["id"]

        def state() -> dict:
            return client.get(f"/api/trainings/{training}").json()

        def trained() -> None:
            before = len(client.get(f"/api/trainings/{training}/metrics").json()["points"])
            while len(client.get(f"/api/trainings/{training}/metrics").json()["points"]) <= before:
                if state()["status"] in ("failed", "done"):
                    raise RuntimeError(f"the training has ended too early: {state()['error']}")
                time.sleep(0.3)

        trained()
        ids = [client.post("/api/jobs", json=ASKED | {"seed": seed}, headers={"X-Client": f"c{seed % 8}"}).json()["id"]
               for seed in range(JOBS)]
        while client.get(f"/api/jobs/{ids[0]}").json()["progress"] < 0.3:
            time.sleep(0.05)
        process = next(one for one in psutil.process_iter(["cmdline"]) if "train" in (one.info["cmdline"] or ())
                       and any(training in word for word in one.info["cmdline"]))
        server.end(signal.SIGKILL)
        done = sum(1 for _ in (server.folder / "data" / "pictures").rglob("00003.png"))
        first = server.start()
        same = state()["status"] == "running" and process.is_running()
        jobs = ended(client, ids)
        trained()
        server.end(signal.SIGKILL)
        process.kill()
        process.wait()
        second = server.start()
        trained()
        while state()["status"] not in ("done", "failed"):
            time.sleep(1)
        whole = 0
        for path in (server.folder / "data" / "pictures").rglob("*.png"):
            with Image.open(path) as image:
                image.load()
            whole += 1
        return {"jobs": len(ids), "of them on disk at the kill": done, "lost": sum(
                    one["status"] != "done" for one in jobs), "pictures": whole, "wanted": 4 * JOBS,
                "in the gallery": client.get("/api/gallery?limit=1").json()["total"],
                "up again s": [round(first, 2), round(second, 2)], "the same process trains": same,
                "training, killed too, at the end": state()["status"]}


def stalls(server: Server) -> dict:
    """Clients that send half a head, a byte a second, or read nothing; how others fare beside them."""
    waits, over = list[float](), threading.Event()

    def others(seconds: float) -> float:
        waits.clear()
        over.clear()
        watch = threading.Thread(target=probe, args=(server.url, waits, over))
        watch.start()
        time.sleep(seconds)
        over.set()
        watch.join()
        return round(1000 * float(np.percentile(waits, 99)), 1)

    before = others(5)
    address, began = ("127.0.0.1", server.port), time.monotonic()
    half = [socket.create_connection(address) for _ in range(HALF)]
    for one in half:
        one.sendall(b"GET /api/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX")
        one.setblocking(False)
    slow = socket.create_connection(address)
    slow.sendall(b"POST /api/files HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 1000\r\n\r\n" % server.port)
    slow.setblocking(False)
    health = others(5)
    closed, slowly = list[float](), None
    while (half or slowly is None) and time.monotonic() - began < DEADLINE:
        half = [one for one in half if not _closed(one, closed, began)]
        if slowly is None:
            try:
                slow.send(b"x")
            except (BrokenPipeError, ConnectionResetError):
                slowly = round(time.monotonic() - began, 1)
        time.sleep(1)
    return {"half-open": HALF, "closed": len(closed), "the last after s": round(max(closed, default=0), 1),
            "a byte a second closed after s": slowly, "health p99 ms before and beside": [before, health]}


def _closed(one: socket.socket, closed: list[float], began: float) -> bool:
    try:
        gone = not one.recv(65536)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        gone = True
    if gone:
        closed.append(time.monotonic() - began)
        one.close()
    return gone


def disk(run: Path) -> dict:
    """A studio whose disk, a small tmpfs, fills up: nothing torn, words for it, and all goes on when there is room."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], check=True)
        server = Server(run, folder)
        try:
            server.start()
            with http(server) as client:
                answers, jobs, refusal = dict[int, int](), list[str](), {}
                for seed in range(400):
                    answer = client.post("/api/jobs", json={"kind": "generate", "count": 64, "nfe": 1, "seed": seed})
                    answers[answer.status_code] = answers.get(answer.status_code, 0) + 1
                    if answer.status_code == 202:
                        jobs.append(answer.json()["id"])
                    else:
                        refusal = answer.json()
                    time.sleep(0.3)
                    if _waiting(client, jobs) >= 20 or answers.get(507, 0) >= 5:
                        break
                health, waiting = client.get("/healthz").status_code, _waiting(client, jobs)
                torn = sum(_torn(path) for path in (folder / "data" / "pictures").rglob("*.png"))
                upload = client.post("/api/files", content=_png())
                subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
                began = time.monotonic()
                left = {one["status"] for one in ended(client, jobs)}
                found = {"answers": answers, "a refusal": refusal, "an upload": [upload.status_code, upload.json()],
                         "health": health, "jobs that wait for room": waiting, "torn": torn,
                         "with room again": sorted(left), "after s": round(time.monotonic() - began, 1)}
            server.end()
            return found
        finally:
            if server.process.poll() is None:
                server.end(signal.SIGKILL)
            subprocess.run(["umount", place], check=True)


def _waiting(client: httpx.Client, ids: list[str]) -> int:
    """How many jobs have not ended."""
    there = {one["id"]: one["status"] for one in client.get("/api/jobs?limit=100").json()["jobs"]}
    return sum(there.get(id) in ("queued", "running") for id in ids)


def _png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def _torn(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return True
    return False


def database(server: Server, damages: int = 40) -> dict:
    """Databases with bytes changed, cut, or replaced: each opens sound or is refused in a line, and is made anew."""
    with http(server) as client:
        ids = [client.post("/api/jobs", json=ASKED | {"seed": seed, "nfe": 2}).json()["id"] for seed in range(20)]
        ended(client, ids)
        wanted = {one["id"] for one in client.get("/api/gallery?limit=100").json()["pictures"]}
    server.end()
    from ornstein.studio.rebuild import rebuild
    from ornstein.studio.state import Studio
    draw, counts, folder = random.Random(0), {"opens": 0, "refused in a line": 0, "else": 0, "not whole again": 0}, \
        server.folder / "data"
    kept = {path.name: path.read_bytes() for path in folder.glob("studio.sqlite*")}
    for number in range(damages):
        content = bytearray(kept["studio.sqlite"])
        if number % 4 == 0:
            content = content[:draw.randrange(len(content))]
        else:
            at = draw.randrange(len(content))
            size = (1, 100, 4096)[number % 4 - 1]
            content[at:at + size] = draw.randbytes(len(content[at:at + size]))
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
        from ornstein.studio.tables import pictures
        counts["not whole again"] += {row["id"] for row in studio.store.select(pictures)} != wanted
        studio.store.close()
        studio.batcher.close()
    return {"damages": damages, **counts, "pictures": len(wanted)}


def soak(server: Server) -> dict:
    """Ten rounds of 500 jobs: memory, threads and open files after each."""
    process, rows = psutil.Process(server.process.pid), []

    def client(name: str, seeds: range) -> None:
        with http(server) as one:
            for first in range(seeds.start, seeds.stop, 20):
                ids = [one.post("/api/jobs", json={"kind": "generate", "count": 1 + seed % 4, "nfe": 2, "seed": seed},
                                headers={"X-Client": name}).json()["id"] for seed in range(first, first + 20)]
                if any(state["status"] != "done" for state in ended(one, ids)):
                    raise RuntimeError("a job was lost")

    for number in range(ROUNDS):
        began = time.monotonic()
        each = ROUND // 5
        threads = [threading.Thread(target=client, args=(f"c{k}", range((5 * number + k) * each,
                                                                        (5 * number + k + 1) * each)))
                   for k in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows.append((round(process.memory_info().rss / 2**20), process.num_threads(), process.num_fds()))
        print(rows[-1], round(time.monotonic() - began, 1), file=sys.stderr, flush=True)
    return {"jobs": ROUNDS * ROUND, "MiB, threads, files after each round": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", nargs="+", default=["kill", "stalls", "disk", "database", "soak"])
    asked = parser.parse_args()
    for row in asked.rows:
        if row == "disk":
            found = disk(asked.run)
        else:
            folder = Path(tempfile.mkdtemp())
            server = Server(asked.run, folder)
            server.start()
            try:
                found = {"kill": kill, "stalls": stalls, "database": database, "soak": soak}[row](server)
            finally:
                if server.process.poll() is None:
                    server.end()
                shutil.rmtree(folder)
        print(json.dumps({"row": row, "load": round(os.getloadavg()[0], 1), **found}), flush=True)


if __name__ == "__main__":
    main()
