"""Memory that was added to a sandbox, its end when idle, what it was made from in its history; a volume's inodes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INODES_PER_MIB = 128


def upgrade() -> None:
    op.add_column("sandboxes", sa.Column("plugged_mib", sa.Integer, nullable=False, server_default="0"))
    op.add_column("sandboxes", sa.Column("idle_timeout_s", sa.Integer))
    op.add_column("volumes", sa.Column("inodes", sa.Integer, nullable=False, server_default="0"))
    volumes = sa.table("volumes", sa.column("size_mib", sa.Integer), sa.column("inodes", sa.Integer))
    op.add_column("audit", sa.Column("template", sa.String(255)))
    columns = ["sandbox_id", "operation", "key_id", "template"]
    op.create_index("ix_audit_sandbox_id_operation_key_id_template", "audit", columns)
    op.execute(volumes.update().values(inodes=volumes.c.size_mib * INODES_PER_MIB))
