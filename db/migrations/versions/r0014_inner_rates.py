"""Add the learned step sizes of inner steps."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table. Earlier runs have no rows in it."""
    op.create_table(
        "inner_rates",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("layers", sa.JSON(), nullable=False),
        sa.Column("rates", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_inner_rates_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "step", name="pk_inner_rates"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("inner_rates")
