"""Add the descriptions of data sets."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, which is empty at first."""
    op.create_table(
        "data_descriptions",
        sa.Column("data_digest", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("description", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("data_digest", "version", name="pk_data_descriptions"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("data_descriptions")
