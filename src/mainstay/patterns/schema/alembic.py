"""An Alembic operation, for those who keep all of their schema in Alembic's revisions.

import mainstay.patterns.schema.alembic  # registers op.upgrade_mainstay

def upgrade() -> None:
    op.upgrade_mainstay(to=1)

def downgrade() -> None:
    pass  # additive: the version before works on it
"""

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation, Operations

from mainstay.patterns.schema.upgrade import upgrade_sync


@Operations.register_operation("upgrade_mainstay")
class UpgradeMainstay(MigrateOperation):
    """Bring Mainstay's tables to migration number `to`; what is there already stays."""

    def __init__(self, to: int) -> None:
        self.to = to

    @classmethod
    def upgrade_mainstay(cls, operations: Operations, *, to: int) -> Any:
        """``op.upgrade_mainstay(to=N)``: N is fixed in the revision, so that it does the same for ever."""
        return operations.invoke(cls(to))

    def reverse(self) -> MigrateOperation:
        """Nothing to undo: migrations only add, and dropping tables would drop messages."""
        return self


@Operations.implementation_for(UpgradeMainstay)
def _upgrade(operations: Operations, operation: UpgradeMainstay) -> None:
    upgrade_sync(operations.get_bind(), to=operation.to)
