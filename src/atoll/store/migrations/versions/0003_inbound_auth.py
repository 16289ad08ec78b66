"""Who may reach a sandbox's ports. Those made before have none but their owner, as from now on by default."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sandboxes", sa.Column("inbound_auth", sa.String(16), nullable=False, server_default="token"))
