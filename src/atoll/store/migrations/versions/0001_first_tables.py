"""Sandboxes, keys, audit, nodes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _sandboxes()
    _api_keys()
    _audit()
    _nodes()


def _sandboxes() -> None:
    op.create_table(
        "sandboxes",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("incarnation", sa.Integer, nullable=False),
        sa.Column("node_id", sa.String(64), nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("state_since", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Integer, nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("template", sa.String(255), nullable=False),
        sa.Column("template_digest", sa.String(128), nullable=False),
        sa.Column("workdir", sa.Text, nullable=False),
        sa.Column("python", sa.Boolean, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("internet_access", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("last_activity_at", sa.Double, nullable=False),
        sa.Column("timeout_s", sa.Integer),
        sa.Column("timeout_from", sa.Double, nullable=False),
        sa.Column("ran_s", sa.Double, nullable=False),
        sa.Column("check_at", sa.Double),
        sa.Column("socket", sa.Text, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sandboxes"),
    )
    op.create_index("ix_sandboxes_check_at", "sandboxes", ["check_at"])
    op.create_index("ix_sandboxes_node_id", "sandboxes", ["node_id"])
    op.create_index("ix_sandboxes_organization_id_created_at_id", "sandboxes", ["organization_id", "created_at", "id"])


def _api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("display", sa.String(32), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("last_used_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_digest", "api_keys", ["digest"], unique=True)


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("sandbox_id", sa.String(64)),
        sa.Column("request_id", sa.String(64)),
        sa.Column("source", sa.String(64)),
        sa.Column("detail", sa.Text),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_sandbox_id", "audit", ["sandbox_id"])
    op.create_index("ix_audit_at", "audit", ["at"])


def _nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("lease_until", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
    )
