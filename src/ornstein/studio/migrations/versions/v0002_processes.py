"""Evaluations beside trainings, as processes of two kinds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Give the table of trainings its new name, and the kind of each process."""
    op.rename_table("trainings", "processes")
    op.add_column("processes", sa.Column("kind", sa.String(16), nullable=False, server_default="train"))


def downgrade() -> None:
    """Leave trainings alone in it."""
    op.execute("DELETE FROM processes WHERE kind != 'train'")
    op.drop_column("processes", "kind")
    op.rename_table("processes", "trainings")
