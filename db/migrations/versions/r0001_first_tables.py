"""Create the first tables: experiments, runs, outer steps, jobs, evaluations, checkpoints.

This revision states the types itself and does not import them from the records, because a revision
must keep its meaning when the records change.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATUSES = "'created', 'running', 'finished', 'failed', 'interrupted', 'cancelled'"


def upgrade() -> None:
    """Create the tables."""
    _make_experiments()
    _make_runs()
    _make_outer_steps()
    _make_jobs()
    _make_evaluations()
    _make_checkpoints()


def downgrade() -> None:
    """Drop the tables with all their rows."""
    for table in ("checkpoints", "evaluations", "jobs", "outer_steps", "runs", "experiments"):
        op.drop_table(table)


def _time(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _run_id(table: str) -> tuple["sa.Column[int]", sa.ForeignKeyConstraint]:
    key = sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=f"fk_{table}_run_id_runs")
    return sa.Column("run_id", sa.Integer(), nullable=False), key


def _make_experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
        sa.UniqueConstraint("name", name="uq_experiments_name"),
    )


def _make_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(16), nullable=False),
        sa.Column("experiment_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("seed", sa.String(20), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("code_version", sa.String(100), nullable=False),
        sa.Column("package_versions", sa.JSON(), nullable=False),
        sa.Column("data_digest", sa.String(100), nullable=False),
        sa.Column("fingerprint", sa.JSON(), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("steps_done", sa.Integer(), nullable=False),
        sa.Column("n_steps", sa.Integer(), nullable=False),
        _time("created_at"),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        sa.Column("checkpoint_sha256", sa.String(64), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(f"status IN ({STATUSES})", name=op.f("ck_runs_status")),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name="fk_runs_experiment_id_experiments",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("uid", name="uq_runs_uid"),
    )
    for column in ("experiment_id", "status", "name"):
        op.create_index(f"ix_runs_{column}_id", "runs", [column, "id"])


def _make_outer_steps() -> None:
    op.create_table(
        "outer_steps",
        *_run_id("outer_steps"),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("grad_norm", sa.Double(), nullable=True),
        sa.Column("lr", sa.Double(), nullable=False),
        sa.Column("episodes", sa.Integer(), nullable=False),
        sa.Column("step_s", sa.Double(), nullable=False),
        sa.Column("workers_alive", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("degraded", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step", name="pk_outer_steps"),
    )


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        *_run_id("jobs"),
        sa.Column("stream", sa.String(32), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(255), nullable=False),
        sa.Column("device", sa.String(100), nullable=False),
        sa.Column("outcome", sa.String(100), nullable=False),
        sa.Column("queue_wait_s", sa.Double(), nullable=True),
        sa.Column("compute_s", sa.Double(), nullable=True),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=False),
        sa.Column("episodes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "stream", "step", "shard", name="pk_jobs"),
    )


def _make_evaluations() -> None:
    op.create_table(
        "evaluations",
        *_run_id("evaluations"),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("split", sa.String(32), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("episodes", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("loss_ci95", sa.Double(), nullable=True),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("accuracy_ci95", sa.Double(), nullable=True),
        sa.Column("batch_norm", sa.String(32), nullable=False),
        sa.Column("is_best", sa.Boolean(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint(
            "run_id", "step", "split", "label", "episodes", name="pk_evaluations"
        ),
    )


def _make_checkpoints() -> None:
    op.create_table(
        "checkpoints",
        *_run_id("checkpoints"),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("run_id", "step", name="pk_checkpoints"),
    )
