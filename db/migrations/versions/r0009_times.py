"""Record when attempts were sent, and how long they took until their results counted."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = ("jobs", "attempts")


def upgrade() -> None:
    """Add the columns. They stay empty in earlier rows."""
    for table in _TABLES:
        op.add_column(table, sa.Column("sent_us", sa.BigInteger(), nullable=True))
        op.add_column(table, sa.Column("round_trip_s", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    for table in _TABLES:
        with op.batch_alter_table(table) as rows:
            rows.drop_column("round_trip_s")
            rows.drop_column("sent_us")
