"""The studio held against its OpenAPI document: thousands of requests, right ones and wrong ones, by schemathesis.

    python benchmarks/studio_cases.py RUN --cases 5000

Nothing may be a failure of the server, every answer must be one that the document names, and every refusal have the one
form. Every other request names things that are there, in place of ids by chance. Streams of events are left out, for
they last as long as a job does. No training begins: the queue has no room.
"""

from __future__ import annotations

import argparse
import collections
import io
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import numpy as np
import schemathesis
import uvicorn
from PIL import Image
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ornstein.studio.limits import Limits
from ornstein.studio.server import create_app, server_config
from ornstein.studio.state import Studio

STREAM = r"/events$"
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
FORM = {"error", "field", "limit"}


def refusal(_: Any, response: Any, case: Any) -> None:
    """Every refusal is one sentence, a field and a limit; a full queue is one, any other 5xx a failure."""
    assert response.status_code < 500 or response.status_code == 503, response.text
    if response.status_code >= 400:
        fault = response.json()
        assert set(fault) == FORM and fault["error"], (case.method, case.path, fault)  # noqa: PT018


def serve(run: Path, folder: Path, port: int) -> None:
    """A studio at a port of this machine."""
    studio = Studio(run, folder, limits=Limits(trainings=0, job_seconds=5.0))
    config = server_config(create_app(studio))
    config.port = port
    uvicorn.Server(config).run()


def up(address: str) -> bool:
    """Whether it answers."""
    try:
        return httpx.get(f"{address}/healthz", timeout=5).is_success
    except httpx.HTTPError:
        return False


def there(address: str) -> dict[str, str]:
    """Ids of what is there, by the start of the addresses that take them."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(file, "PNG")
    with httpx.Client(base_url=address, timeout=60) as client:
        upload = client.post("/api/files", content=file.getvalue()).json()["id"]
        job = client.post("/api/jobs", json={"kind": "generate", "count": 2, "nfe": 2}).json()["id"]
        while not (samples := client.get(f"/api/jobs/{job}").json()["samples"]):
            time.sleep(0.05)
    return {"/api/files": upload, "/api/jobs": job, "/api/gallery": samples[0]["id"], "/api/trainings": job,
            "/api/evaluations": job, "picture": upload}


def name_what_is_there(case: Any, ids: dict[str, str], model: str) -> None:
    """Put ids of what is there into a case."""
    for name in case.path_parameters or {}:
        if name == "id":
            case.path_parameters["id"] = next(id for start, id in ids.items() if case.path.startswith(start))
        elif name == "name" and case.path.endswith("{name}"):
            case.path_parameters["name"] = model
    for given in (case.query, case.body):
        if isinstance(given, dict) and "picture" in given:
            given["picture"] = ids["picture"]
        if isinstance(given, dict) and "model" in given:
            given["model"] = model


def ask(operation: Any, cases: int, mode: GenerationMode, seen: collections.Counter, wrong: list[str],
        named: Callable[[Any], None]) -> None:
    """Send so many cases of one operation."""

    @hypothesis.seed(seen.total())
    @hypothesis.settings(max_examples=cases, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        if seen.total() % 2:
            named(case)
        response = case.call()
        seen[response.status_code] += 1
        try:
            case.validate_response(response, checks=[*CHECKS, refusal])
        except (FailureGroup, AssertionError, ValueError) as error:
            wrong.append(f"{operation.label}: {error}")

    try:
        one()
    except hypothesis.errors.Unsatisfiable:  # nothing about this operation can be wrong
        return


def main() -> None:
    """Send the cases, and say what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--cases", type=int, default=5000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        # In a process of its own, for Hypothesis walks over modules that a server still imports.
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(asked.run, Path(folder), port))
        server.start()
        try:
            while not up(address):
                time.sleep(0.2)
            schema = schemathesis.openapi.from_url(f"{address}/openapi.json").exclude(path_regex=STREAM)
            operations = [one.ok() for one in schema.get_all_operations()]
            operations.sort(key=lambda one: one.method == "delete")
            ids = there(address)

            def named(case: Any) -> None:
                name_what_is_there(case, ids, asked.run.name)

            seen, wrong, began = collections.Counter[int](), list[str](), time.monotonic()
            while (before := seen.total()) < asked.cases:
                each = -(-(asked.cases - before) // len(operations) // 2)
                for operation in operations:
                    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                        ask(operation, each, mode, seen, wrong, named)
                print(f"{seen.total():,} cases of {len(operations)} operations in {time.monotonic() - began:.0f} "
                      "s: " + ", ".join(f"{count:,} x {status}" for status, count in sorted(seen.items())), flush=True)
                if seen.total() == before:
                    break
        finally:
            server.terminate()
            server.join()
    for line in dict.fromkeys(wrong):
        print(line)
    print(f"{len(wrong)} answers were not as the document says")


if __name__ == "__main__":
    main()
