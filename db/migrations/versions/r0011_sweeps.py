"""Add sweeps and their trials."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_STATUSES = (
    "'created', 'queued', 'running', 'finished', 'failed', 'interrupted', 'cancelled'"  # as of runs
)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("n_trials", sa.Integer(), nullable=False),
        sa.Column("parallel", sa.Integer(), nullable=True),
        sa.Column("detached", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(255), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"status IN ({_STATUSES})", name="ck_sweeps_status"),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
        sa.UniqueConstraint("name", name="uq_sweeps_name"),
    )
    op.create_table(
        "sweep_trials",
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("assigned", sa.JSON(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("refused", sa.Text(), nullable=True),
        sa.Column("pruned_step", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name="fk_sweep_trials_sweep_id_sweeps"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_sweep_trials_run_id_runs"),
        sa.PrimaryKeyConstraint("sweep_id", "number", name="pk_sweep_trials"),
        sa.UniqueConstraint("run_id", name="uq_sweep_trials_run_id"),
    )


def downgrade() -> None:
    """Drop the tables. The runs of the trials stay."""
    op.drop_table("sweep_trials")
    op.drop_table("sweeps")
