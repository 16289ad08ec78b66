"""Alembic's entry point. The connection is always given: `atoll.store.engine.migrate` is the one way in."""

from __future__ import annotations

from alembic import context

from atoll.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
