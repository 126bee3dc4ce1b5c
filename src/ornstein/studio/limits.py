"""How much the studio takes from a client, and how long it waits for one."""

from __future__ import annotations

from dataclasses import dataclass

from ornstein.data.pictures import MOST_PIXELS

__all__ = ["BUDGET", "COUNT", "HEADER", "LIMITS", "MINUTES", "SLOW", "Limits"]

COUNT, BUDGET, MINUTES = 64, 1000, 1440  # samples of a job, network calls a sample, minutes of a training
HEADER = 16_384  # bytes of a request's head
SLOW = 10.0  # seconds in which a request's head, and then each MOVES bytes of its body, must have arrived


@dataclass(frozen=True)
class Limits:
    """What is refused above these numbers; `GET /api/limits` tells them.

    Args:
        body: bytes of a JSON body.
        upload: bytes of an uploaded file.
        unpacked: bytes that a zip may hold when it is unpacked.
        files: uploads, and pictures of a zip.
        pixels: of a picture.
        count: samples of a job.
        calls: network calls a sample.
        queue: jobs that wait.
        client_jobs: jobs of one client that wait or run.
        job_seconds: that a job may run.
        minutes: of a training.
        trainings: that wait or run, evaluations among them.
        header: bytes of a request's head.
        wait: seconds in which a request must arrive.
    """

    body: int = 65_536
    upload: int = 64_000_000
    unpacked: int = 1_000_000_000
    files: int = 20_000
    pixels: int = MOST_PIXELS
    count: int = COUNT
    calls: int = BUDGET
    queue: int = 1_000
    client_jobs: int = 100
    job_seconds: float = 600.0
    minutes: float = MINUTES
    trainings: int = 20
    header: int = HEADER
    wait: float = SLOW


LIMITS = Limits()
