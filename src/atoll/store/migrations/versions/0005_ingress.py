"""How a sandbox's ports are reached, sealed, and by which API it was made. All made before are HopX's, as they were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sandboxes", sa.Column("ingress", sa.Text, nullable=False, server_default=""))
    op.add_column("sandboxes", sa.Column("dialect", sa.String(16), nullable=False, server_default="hopx"))
