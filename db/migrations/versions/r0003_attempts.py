"""Add counters of attempts, and samples of the attempts that did not count."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COUNTS = ("attempts", "backups", "dropped", "missing_episodes")


def upgrade() -> None:
    """Add the tables, and columns for each outer step's attempts and missing shards."""
    with op.batch_alter_table("outer_steps") as steps:
        for name in _COUNTS:
            steps.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
        steps.add_column(
            sa.Column("missing_shards", sa.JSON(), nullable=False, server_default="[]")
        )
    op.create_table(
        "attempts",
        *_key("stream", "step", "epoch", "shard", "attempt", "outcome"),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("worker", sa.String(255), nullable=False),
        sa.Column("detail", sa.String(500), nullable=False),
        sa.Column("queue_wait_s", sa.Double(), nullable=True),
        sa.Column("compute_s", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        *_constraints("attempts", "stream", "step", "epoch", "shard", "attempt", "outcome"),
    )
    op.create_table(
        "attempt_counts",
        *_key("epoch", "stream", "outcome", "reason"),
        sa.Column("n", sa.BigInteger(), nullable=False),
        *_constraints("attempt_counts", "epoch", "stream", "outcome", "reason"),
    )


def downgrade() -> None:
    """Drop the tables and columns."""
    op.drop_table("attempt_counts")
    op.drop_table("attempts")
    with op.batch_alter_table("outer_steps") as steps:
        for name in (*_COUNTS, "missing_shards"):
            steps.drop_column(name)


def _key(*names: str) -> "list[sa.Column[Any]]":
    lengths = {"stream": 32, "outcome": 16, "reason": 32}
    kinds: dict[str, Any] = {name: sa.String(length) for name, length in lengths.items()}
    return [
        sa.Column(name, kinds.get(name, sa.Integer()), nullable=False)
        for name in ("run_id", *names)
    ]


def _constraints(table: str, *key: str) -> tuple[sa.Constraint, ...]:
    return (
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=f"fk_{table}_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", *key, name=f"pk_{table}"),
    )
