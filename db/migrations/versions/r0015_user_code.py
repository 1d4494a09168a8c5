"""Record the versions of the user's own packages that a run uses."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it stays empty for earlier runs."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("user_code", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("user_code")
