"""Connecting to the database. The only place that knows which one it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import StaticPool

MIGRATIONS = Path(__file__).parent / "migrations"

# WAL: the CLI can read while the server writes. NORMAL: a power cut may lose the last commits, a killed process loses
# none and nothing is ever torn; what a lost row leaves on the node is swept by reconciliation.
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA busy_timeout=5000",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-16384",
)


def sqlite(path: Path) -> Engine:
    """One connection, used from one event loop: a statement takes some tens of microseconds, less than handing it to a
    thread. No method of a repository awaits inside a transaction, so transactions never interleave."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    engine = create_engine(
        f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False}, pool_reset_on_return=None
    )
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, record: object) -> None:  # Any: the driver's connection, untyped in SQLAlchemy
    for pragma in PRAGMAS:
        connection.execute(pragma).close()


def migrate(engine: Engine, revision: str = "head") -> None:
    """All or nothing, and one process at a time: one killed half-way leaves the database as it was."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver opens no transaction for DDL by itself
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
