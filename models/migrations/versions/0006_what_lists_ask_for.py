"""Indexes for lists of tasks by correlation, parent, schedule and tag; a task without them is in none of these.

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

_INDEXES = {
    'ix_background_tasks_correlation': (['correlation_id', 'task_id'], "correlation_id <> task_id"),
    'ix_background_tasks_parent': (['parent_id', 'task_id'], "parent_id IS NOT NULL"),
    'ix_background_tasks_schedule': (['schedule_id', 'task_id'], "schedule_id IS NOT NULL"),
    'ix_background_tasks_tagged': (['task_id'], "CAST(tags AS TEXT) <> '[]'"),
}
"""Name → columns and the rows that are in it."""


def upgrade() -> None:
    for name, (columns, where) in _INDEXES.items():
        op.create_index(name, 'background_tasks', columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    for name in _INDEXES:
        op.drop_index(name, 'background_tasks')
