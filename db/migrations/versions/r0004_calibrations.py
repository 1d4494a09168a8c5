"""A run keeps what was measured at its first start, and what was chosen by it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; runs from before were measured nothing for."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("calibration", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take it away."""
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("calibration")
