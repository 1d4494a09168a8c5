"""Record the pretrained encoders of a run's data, with the digests of their weights."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it stays empty for the runs that are there."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("encoders", sa.JSON, nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("encoders")
