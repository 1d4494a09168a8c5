"""Add a queue of runs with priorities, and the servers that execute them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OLD_STATUSES = "'created', 'running', 'paused', 'finished', 'failed', 'interrupted', 'cancelled'"
STATUSES = f"'queued', {OLD_STATUSES}"
_CHECK = "ck_runs_status"
_ADDED = ("priority", "detached", "owner", "deaths", "death_step")


def upgrade() -> None:
    """Add the columns and the table, and allow the status "queued"."""
    with op.batch_alter_table("runs") as runs:
        runs.drop_constraint(op.f(_CHECK), type_="check")
        runs.create_check_constraint(op.f(_CHECK), f"status IN ({STATUSES})")
        runs.add_column(_count("priority"))
        runs.add_column(
            sa.Column("detached", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        runs.add_column(sa.Column("owner", sa.String(255), nullable=True))
        runs.add_column(_count("deaths"))
        runs.add_column(_count("death_step"))
    op.create_table(
        "servers",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("max_runs", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_servers"),
    )


def downgrade() -> None:
    """Remove them. Queued runs become interrupted, so that they can be resumed."""
    op.drop_table("servers")
    op.execute("UPDATE runs SET status = 'interrupted' WHERE status = 'queued'")
    with op.batch_alter_table("runs") as runs:
        runs.drop_constraint(op.f(_CHECK), type_="check")
        runs.create_check_constraint(op.f(_CHECK), f"status IN ({OLD_STATUSES})")
        for column in _ADDED:
            runs.drop_column(column)


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.Integer(), nullable=False, server_default="0")
