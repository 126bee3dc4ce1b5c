"""The tables of the studio's database."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

__all__ = ["jobs", "metadata", "pictures", "processes", "uploads"]

metadata = MetaData()

jobs = Table(
    "jobs", metadata,
    Column("id", String(16), primary_key=True),
    Column("client", String(64), nullable=False),
    Column("key", String(128), unique=True),  # idempotency key
    Column("kind", String(16), nullable=False),
    Column("model", String(128), nullable=False),
    Column("request", JSON, nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("error", JSON),
    Column("result", JSON),
)

pictures = Table(
    "pictures", metadata,
    Column("id", String(16), primary_key=True),
    Column("job", String(16), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("model", String(128), nullable=False),
    Column("label", String(128)),
    Column("sampler", String(64)),
    Column("seed", String(20)),  # up to 2^64 - 1, too large for an integer column
    Column("nfe", Integer),
    Column("guidance", Float),
    Column("settings", JSON, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("favourite", Boolean, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Index("pictures_of_job", "job", "number", unique=True),
    Index("pictures_by_age", "deleted", "created"),
)

uploads = Table(
    "uploads", metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("kind", String(16), nullable=False),  # picture, zip or numbers
    Column("ending", String(8), nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("pictures", Integer),  # in a zip
    Column("created", Float, nullable=False),
)

processes = Table(
    "processes", metadata,
    Column("id", String(16), primary_key=True),
    Column("kind", String(16), nullable=False, server_default="train"),  # or evaluate
    Column("name", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("pid", Integer),
    Column("born", Float),  # start time of the process, to detect a reused pid
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("error", Text),
)
