"""Limits on what clients may ask of the studio and on how long it waits for them."""

from __future__ import annotations

from dataclasses import dataclass

from ornstein.data.pictures import MAX_PIXELS

__all__ = ["LIMITS", "MAX_CALLS", "MAX_HEADER", "MAX_MINUTES", "MAX_SAMPLES", "REQUEST_SECONDS", "Limits"]

MAX_SAMPLES, MAX_CALLS, MAX_MINUTES = 64, 1000, 1440  # samples per job, network calls per sample, minutes of training
MAX_HEADER = 16_384  # bytes of a request's head
REQUEST_SECONDS = 10.0  # within which a request's head, and then each chunk of its body, must arrive


@dataclass(frozen=True)
class Limits:
    """The limits of a studio, as `GET /api/limits` returns them.

    Args:
        body: bytes of a JSON body.
        upload: bytes of an uploaded file.
        unpacked: bytes of a zip file's contents.
        files: uploads kept, and pictures in a zip file.
        pixels: pixels of a picture.
        count: samples per job.
        calls: network calls per sample.
        queue: queued and running jobs.
        client_jobs: queued and running jobs of one client.
        job_seconds: running time of a job.
        minutes: duration of a training.
        trainings: waiting and running trainings and evaluations.
        header: bytes of a request's head.
        wait: seconds within which a request must arrive.
    """

    body: int = 65_536
    upload: int = 64_000_000
    unpacked: int = 1_000_000_000
    files: int = 20_000
    pixels: int = MAX_PIXELS
    count: int = MAX_SAMPLES
    calls: int = MAX_CALLS
    queue: int = 1_000
    client_jobs: int = 100
    job_seconds: float = 600.0
    minutes: float = MAX_MINUTES
    trainings: int = 20
    header: int = MAX_HEADER
    wait: float = REQUEST_SECONDS


LIMITS = Limits()
