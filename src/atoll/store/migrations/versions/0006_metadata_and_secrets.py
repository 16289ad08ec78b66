"""Sandboxes are found by their metadata, and use secrets. Those made before have neither."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sandbox_metadata",
        sa.Column("sandbox_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("sandbox_id", "name", name="pk_sandbox_metadata"),
    )
    op.create_index("ix_sandbox_metadata_name_value", "sandbox_metadata", ["name", "value"])
    op.create_table(
        "secrets",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("organization_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("hosts", sa.JSON, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
    )
    op.create_index("ix_secrets_organization_id_name", "secrets", ["organization_id", "name"], unique=True)
    op.add_column("sandboxes", sa.Column("secrets", sa.JSON, nullable=False, server_default="[]"))
