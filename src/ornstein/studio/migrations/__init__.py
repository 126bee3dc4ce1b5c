"""Alembic's migrations of the studio's database, one file per version."""
