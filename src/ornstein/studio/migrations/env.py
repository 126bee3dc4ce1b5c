"""Alembic's entry: migrates the database that the store has opened."""

from __future__ import annotations

from alembic import context

from ornstein.studio.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
