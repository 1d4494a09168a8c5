"""Lengthen the label of an evaluation, to name all differences of its episodes from the run's."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SHORT, _LONG = sa.String(64), sa.String(255)


def upgrade() -> None:
    """Lengthen the column."""
    with op.batch_alter_table("evaluations") as evaluations:
        evaluations.alter_column(
            "label", existing_type=_SHORT, type_=_LONG, existing_nullable=False
        )


def downgrade() -> None:
    """Shorten the column. A label that is too long is cut and gets a hash of the whole."""
    connection = op.get_bind()
    table = sa.table("evaluations", sa.column("label", sa.String))
    labels = connection.scalars(
        sa.select(table.c.label).where(sa.func.length(table.c.label) > _SHORT.length).distinct()
    ).all()
    for label in labels:
        digest = hashlib.sha256(label.encode()).hexdigest()[:8]
        shorter = f"{label[:55]}~{digest}"
        connection.execute(table.update().where(table.c.label == label).values(label=shorter))
    with op.batch_alter_table("evaluations") as evaluations:
        evaluations.alter_column(
            "label", existing_type=_LONG, type_=_SHORT, existing_nullable=False
        )
