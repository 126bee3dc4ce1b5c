"""Jobs, their pictures, uploads and trainings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("key", sa.String(128), unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False, index=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("finished", sa.Float),
        sa.Column("error", sa.JSON),
        sa.Column("result", sa.JSON))
    op.create_table(
        "pictures",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("job", sa.String(16), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("label", sa.String(128)),
        sa.Column("sampler", sa.String(64)),
        sa.Column("seed", sa.String(20)),
        sa.Column("nfe", sa.Integer),
        sa.Column("guidance", sa.Float),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("favourite", sa.Boolean, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False))
    op.create_index("pictures_of_job", "pictures", ["job", "number"], unique=True)
    op.create_index("pictures_by_age", "pictures", ["deleted", "created"])
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("ending", sa.String(8), nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("pictures", sa.Integer),
        sa.Column("created", sa.Float, nullable=False))
    op.create_table(
        "trainings",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("pid", sa.Integer),
        sa.Column("born", sa.Float),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("finished", sa.Float),
        sa.Column("error", sa.Text))


def downgrade() -> None:
    """Drop the tables."""
    for name in ("trainings", "uploads", "pictures", "jobs"):
        op.drop_table(name)
