"""Add a run's calibration: the measurements at its first start, and the choices made from them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Earlier runs have no calibration."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("calibration", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("calibration")
