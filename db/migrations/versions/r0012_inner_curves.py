"""Add the results of evaluations after each inner step."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table. Earlier evaluations have no rows in it."""
    op.create_table(
        "inner_curves",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(32), nullable=False),
        sa.Column("label", sa.String(255), nullable=False),
        sa.Column("episodes", sa.Integer(), nullable=False),
        sa.Column("support_losses", sa.LargeBinary(), nullable=False),
        sa.Column("support_accuracies", sa.LargeBinary(), nullable=True),
        sa.Column("query_losses", sa.LargeBinary(), nullable=False),
        sa.Column("query_losses_ci95", sa.LargeBinary(), nullable=False),
        sa.Column("query_accuracies", sa.LargeBinary(), nullable=True),
        sa.Column("query_accuracies_ci95", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_inner_curves_run_id_runs"),
        sa.PrimaryKeyConstraint(
            "run_id", "step", "split", "label", "episodes", name="pk_inner_curves"
        ),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("inner_curves")
