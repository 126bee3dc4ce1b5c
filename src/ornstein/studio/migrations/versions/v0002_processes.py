"""Processes of two kinds: trainings and evaluations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Rename the table of trainings and add the kind of each process."""
    op.rename_table("trainings", "processes")
    op.add_column("processes", sa.Column("kind", sa.String(16), nullable=False, server_default="train"))


def downgrade() -> None:
    """Keep the trainings only."""
    op.execute("DELETE FROM processes WHERE kind != 'train'")
    op.drop_column("processes", "kind")
    op.rename_table("processes", "trainings")
