"""durable"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.upgrade_mainstay(to=6)
    op.create_table(
        "product_totals",
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("revenue_cents", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name=op.f("fk_product_totals_product_id")),
        sa.PrimaryKeyConstraint("product_id", name=op.f("pk_product_totals")),
    )
    op.create_table(
        "event_totals",
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("event", name=op.f("pk_event_totals")),
    )


def downgrade() -> None:
    op.drop_table("event_totals")
    op.drop_table("product_totals")  # Mainstay's tables stay: they may hold messages
