"""lighter statements: what a newer Mainstay needs comes in a revision of its own"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.upgrade_mainstay(to=7)


def downgrade() -> None:
    pass  # the version before works on it
