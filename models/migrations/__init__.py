"""Alembic's steps; each has a way back. Run through `models.schema`."""
