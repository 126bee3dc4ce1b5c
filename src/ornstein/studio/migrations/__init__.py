"""Versions of the studio's database, one a file, by Alembic."""
