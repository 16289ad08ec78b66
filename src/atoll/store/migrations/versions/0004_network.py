"""What a sandbox may reach beside `internet_access`, sealed. Those made before have no rules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sandboxes", sa.Column("network", sa.Text, nullable=False, server_default=""))
