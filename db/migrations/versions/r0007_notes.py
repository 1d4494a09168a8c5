"""Add tags, notes and the archive of runs, and the run from which a run was made."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ADDED = ("note", "archived", "parent_uid")


def upgrade() -> None:
    """Add the columns and the table. Earlier runs have no note, no tags and no parent."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("note", sa.Text(), nullable=False, server_default=""))
        runs.add_column(
            sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        runs.add_column(sa.Column("parent_uid", sa.String(16), nullable=True))
    op.create_table(
        "run_tags",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_tags_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "tag", name="pk_run_tags"),
    )


def downgrade() -> None:
    """Drop the table and the columns."""
    op.drop_table("run_tags")
    with op.batch_alter_table("runs") as runs:
        for name in _ADDED:
            runs.drop_column(name)
