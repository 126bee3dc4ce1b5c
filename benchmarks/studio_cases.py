"""The studio tested against its OpenAPI document: thousands of valid and invalid requests from schemathesis.

    python benchmarks/studio_cases.py RUN --cases 5000

The server must not fail, every response must be documented, and every error must have the documented form. Every second
request uses existing ids instead of random ones. Event streams are left out, because they last as long as a job. No
training starts, because the queue has no room.
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


def error_form(_: Any, response: Any, case: Any) -> None:
    """Check that an error has a sentence, a field and a limit, and that no 5xx but that of a full queue occurs."""
    assert response.status_code < 500 or response.status_code == 503, response.text
    if response.status_code >= 400:
        fault = response.json()
        assert set(fault) == FORM and fault["error"], (case.method, case.path, fault)  # noqa: PT018


def serve(run: Path, folder: Path, port: int) -> None:
    """Serve a studio at a port of this machine."""
    studio = Studio(run, folder, limits=Limits(trainings=0, job_seconds=5.0))
    config = server_config(create_app(studio))
    config.port = port
    uvicorn.Server(config).run()


def is_up(address: str) -> bool:
    """Whether the server responds."""
    try:
        return httpx.get(f"{address}/healthz", timeout=5).is_success
    except httpx.HTTPError:
        return False


def create_ids(address: str) -> dict[str, str]:
    """Create an upload and a job, and return ids by the start of the addresses that take them."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(file, "PNG")
    with httpx.Client(base_url=address, timeout=60) as client:
        upload = client.post("/api/files", content=file.getvalue()).json()["id"]
        job = client.post("/api/jobs", json={"kind": "generate", "count": 2, "nfe": 2}).json()["id"]
        while not (samples := client.get(f"/api/jobs/{job}").json()["samples"]):
            time.sleep(0.05)
    return {"/api/files": upload, "/api/jobs": job, "/api/gallery": samples[0]["id"], "/api/trainings": job,
            "/api/evaluations": job, "picture": upload}


def use_ids(case: Any, ids: dict[str, str], model: str) -> None:
    """Replace the random ids of a case by existing ones."""
    for name in case.path_parameters or {}:
        if name == "id":
            case.path_parameters["id"] = next(id for start, id in ids.items() if case.path.startswith(start))
        elif name == "name" and case.path.endswith("{name}"):
            case.path_parameters["name"] = model
    for values in (case.query, case.body):
        if isinstance(values, dict) and "picture" in values:
            values["picture"] = ids["picture"]
        if isinstance(values, dict) and "model" in values:
            values["model"] = model


def send(operation: Any, cases: int, mode: GenerationMode, statuses: collections.Counter, failures: list[str],
         with_ids: Callable[[Any], None]) -> None:
    """Send a number of cases of one operation."""

    @hypothesis.seed(statuses.total())
    @hypothesis.settings(max_examples=cases, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def send_one(case: Any) -> None:
        if statuses.total() % 2:
            with_ids(case)
        response = case.call()
        statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=[*CHECKS, error_form])
        except (FailureGroup, AssertionError, ValueError) as error:
            failures.append(f"{operation.label}: {error}")

    try:
        send_one()
    except hypothesis.errors.Unsatisfiable:  # the operation has no invalid cases
        return


def main() -> None:
    """Send the cases and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--cases", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        # A process of its own, because Hypothesis inspects modules while a server would still import them.
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(arguments.run, Path(folder), port))
        server.start()
        try:
            while not is_up(address):
                time.sleep(0.2)
            schema = schemathesis.openapi.from_url(f"{address}/openapi.json").exclude(path_regex=STREAM)
            operations = [result.ok() for result in schema.get_all_operations()]
            operations.sort(key=lambda operation: operation.method == "delete")
            ids = create_ids(address)

            def with_ids(case: Any) -> None:
                use_ids(case, ids, arguments.run.name)

            statuses, failures, started = collections.Counter[int](), list[str](), time.monotonic()
            while (before := statuses.total()) < arguments.cases:
                each = -(-(arguments.cases - before) // len(operations) // 2)
                for operation in operations:
                    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                        send(operation, each, mode, statuses, failures, with_ids)
                counts = ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))
                print(f"{statuses.total():,} cases of {len(operations)} operations in "
                      f"{time.monotonic() - started:.0f} s: {counts}", flush=True)
                if statuses.total() == before:
                    break
        finally:
            server.terminate()
            server.join()
    for line in dict.fromkeys(failures):
        print(line)
    print(f"{len(failures)} responses did not match the document")


if __name__ == "__main__":
    main()
