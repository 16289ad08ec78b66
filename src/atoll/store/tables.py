"""The tables. Types are portable: what works only on one database lives in `engine.py`."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Double, Index, Integer, MetaData, String, Table, Text

metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})

sandboxes = Table(
    "sandboxes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("incarnation", Integer, nullable=False),
    Column("node_id", String(64), nullable=False),
    Column("lease_until", Double),
    Column("state", String(16), nullable=False),
    Column("state_since", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("organization_id", Integer, nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("template", String(255), nullable=False),
    Column("template_digest", String(128), nullable=False),
    Column("workdir", Text, nullable=False),
    Column("python", Boolean, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("region", String(64), nullable=False),
    Column("internet_access", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_activity_at", Double, nullable=False),
    Column("timeout_s", Integer),
    Column("timeout_from", Double, nullable=False),
    Column("idle_timeout_s", Integer),
    Column("ran_s", Double, nullable=False),
    Column("check_at", Double),
    Column("agent_per_minute", Integer),
    Column("inbound_auth", String(16), nullable=False),
    Column("socket", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("network", Text, nullable=False),
    Column("ingress", Text, nullable=False),
    Column("dialect", String(16), nullable=False),
    Column("secrets", JSON, nullable=False),
    Column("volumes", JSON, nullable=False),
    Column("on_timeout", String(16), nullable=False),
    Column("plugged_mib", Integer, nullable=False),
)
Index(None, sandboxes.c.check_at)
Index(None, sandboxes.c.organization_id, sandboxes.c.created_at, sandboxes.c.id)
Index(None, sandboxes.c.node_id)
Index(None, sandboxes.c.key_id)

sandbox_metadata = Table(
    "sandbox_metadata",
    metadata,
    Column("sandbox_id", String(64), primary_key=True),
    Column("name", String(256), primary_key=True),
    Column("value", Text, nullable=False),
)
"""The pairs of `sandboxes.metadata` again, to find by."""
Index(None, sandbox_metadata.c.name, sandbox_metadata.c.value)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("organization_id", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("display", String(32), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Column("quota", JSON, nullable=False),
    Column("rates", JSON, nullable=False),
)
Index(None, api_keys.c.digest, unique=True)

secrets = Table(
    "secrets",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", Integer, nullable=False),
    Column("name", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("hosts", JSON, nullable=False),
    Column("description", Text, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("sealed", Text, nullable=False),
)
Index(None, secrets.c.organization_id, secrets.c.name, unique=True)

volumes = Table(
    "volumes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("organization_id", Integer, nullable=False),
    Column("node_id", String(64), nullable=False),
    Column("size_mib", Integer, nullable=False),
    Column("inodes", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index(None, volumes.c.organization_id, volumes.c.name, unique=True)

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("sandbox_id", String(64)),
    Column("request_id", String(64)),
    Column("source", String(64)),
    Column("detail", Text),
    Column("template", String(255)),
)
Index(None, audit.c.sandbox_id)
Index(None, audit.c.sandbox_id, audit.c.operation, audit.c.key_id, audit.c.template)
Index(None, audit.c.at)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("request", String(64), nullable=False),
    Column("attempt", String(64), nullable=False),
    Column("answer", Text, nullable=False),
    Column("at", Double, nullable=False),
)
Index(None, idempotency.c.at)

nodes = Table(
    "nodes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("region", String(64), nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("lease_until", Double, nullable=False),
)
