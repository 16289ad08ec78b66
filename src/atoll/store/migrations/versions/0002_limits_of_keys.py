"""What a key may use: quota and rates. Keys made before have no quota, and the rates of a new key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("quota", "rates"):
        op.add_column("api_keys", sa.Column(name, sa.JSON, nullable=False, server_default="{}"))
    op.add_column("sandboxes", sa.Column("agent_per_minute", sa.Integer))
    op.create_index("ix_sandboxes_key_id", "sandboxes", ["key_id"])
