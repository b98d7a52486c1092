"""When tasks ended: an index for statistics by time and for whoever follows what happens.

Revision: 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None

_HAS_ENDED = sa.text("completed_at IS NOT NULL")


def upgrade() -> None:
    op.create_index('ix_background_tasks_completed_at', 'background_tasks', ['completed_at', 'status'], sqlite_where=_HAS_ENDED, postgresql_where=_HAS_ENDED)


def downgrade() -> None:
    op.drop_index('ix_background_tasks_completed_at', 'background_tasks')
