"""Metrics for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from ornstein.studio.jobs import Job
    from ornstein.studio.state import Studio

__all__ = ["Metrics"]


class Metrics:
    """The metrics of one studio, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Counter("ornstein_jobs", "Ended jobs.", ["kind", "status"], registry=self.registry)
        self.seconds = Histogram("ornstein_job_seconds", "From a job's acceptance to its end.", ["kind"],
                                 buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000), registry=self.registry)
        self.gauges = {name: Gauge(f"ornstein_{name}", text, registry=self.registry) for name, text in (
            ("accepted_jobs", "Jobs accepted since the start."), ("active_jobs", "Queued and running jobs."),
            ("network_calls", "Network calls since the start."), ("network_rows", "Rows of these calls."),
            ("network_rows_filled", "Rows of these calls that are not padding."),
            ("trainings_running", "Running trainings and evaluations."))}

    def on_job_end(self, job: Job, status: str, seconds: float) -> None:
        """Count a job that has ended."""
        self.jobs.labels(job.body["kind"], status).inc()
        self.seconds.labels(job.body["kind"]).observe(seconds)

    def text(self, studio: Studio) -> bytes:
        """All metrics in Prometheus' text format."""
        batcher = studio.batcher
        for name, value in (("accepted_jobs", studio.jobs.accepted), ("active_jobs", len(studio.jobs.active)),
                            ("network_calls", batcher.calls), ("network_rows", batcher.rows),
                            ("network_rows_filled", batcher.filled), ("trainings_running", studio.processes.running)):
            self.gauges[name].set(value)
        return generate_latest(self.registry)
