"""Add the results of each episode of an evaluation."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table. Earlier evaluations have no rows in it."""
    op.create_table(
        "episode_results",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(32), nullable=False),
        sa.Column("label", sa.String(255), nullable=False),
        sa.Column("episodes", sa.Integer(), nullable=False),
        sa.Column("losses", sa.LargeBinary(), nullable=False),
        sa.Column("accuracies", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_episode_results_run_id_runs"),
        sa.PrimaryKeyConstraint(
            "run_id", "step", "split", "label", "episodes", name="pk_episode_results"
        ),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("episode_results")
