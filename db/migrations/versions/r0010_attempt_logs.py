"""Add the log lines of attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KEY = ("run_id", "stream", "step", "epoch", "shard", "attempt")


def upgrade() -> None:
    """Add the table. Earlier attempts have no log."""
    op.create_table(
        "attempt_logs",
        sa.Column("stream", sa.String(32), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(255), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_attempt_logs_run_id_runs"),
        sa.PrimaryKeyConstraint(*_KEY, name="pk_attempt_logs"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("attempt_logs")
