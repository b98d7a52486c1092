"""Group commit: attempts that are not known to have begun, keys, groups, chores, queues of workers, and indexes that completed tasks stay out of.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

from models.columns import JsonDocument, UtcDateTime

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

_NOT_COMPLETED = sa.text("status <> 'completed'")
_CANCEL_REQUESTED = sa.text("cancel_requested_at IS NOT NULL AND status IN ('pending', 'running')")
_IN_GROUP = sa.text("group_id IS NOT NULL")
_ATTEMPT_COLUMNS = 'task_id, number, worker_id, started_at, finished_at, outcome, error_type, error_message, traceback'


def upgrade() -> None:
    op.drop_index('ix_background_tasks_status_task_id', 'background_tasks')
    op.create_index('ix_background_tasks_not_completed', 'background_tasks', ['status', 'task_id'], sqlite_where=_NOT_COMPLETED, postgresql_where=_NOT_COMPLETED)
    op.create_index('ix_background_tasks_cancel_requested', 'background_tasks', ['task_id'], sqlite_where=_CANCEL_REQUESTED, postgresql_where=_CANCEL_REQUESTED)
    _attempts_again(started_at_nullable=True, sqlite_with_rowid=False)
    op.create_table('idempotency_keys',
    sa.Column('key', sa.String(200), nullable=False),
    sa.Column('task_id', sa.String(64), nullable=False),
    sa.Column('held_until', UtcDateTime(), nullable=True),
    sa.PrimaryKeyConstraint('key')
    )
    op.create_index('ix_idempotency_keys_task_id', 'idempotency_keys', ['task_id'])
    op.create_index('ix_background_tasks_group_id', 'background_tasks', ['group_id', 'status'], sqlite_where=_IN_GROUP, postgresql_where=_IN_GROUP)
    op.create_table('task_groups',
    sa.Column('group_id', sa.String(64), nullable=False),
    sa.Column('size', sa.Integer(), nullable=False),
    sa.Column('parent_id', sa.String(64), nullable=True),
    sa.Column('correlation_id', sa.String(100), nullable=True),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.Column('completed_at', UtcDateTime(), nullable=True),
    sa.PrimaryKeyConstraint('group_id')
    )
    op.add_column('workers', sa.Column('queues', JsonDocument(), nullable=True))
    op.create_table('chores',
    sa.Column('name', sa.String(50), nullable=False),
    sa.Column('holder', sa.String(200), nullable=False),
    sa.Column('held_until', UtcDateTime(), nullable=False),
    sa.Column('steady_since', UtcDateTime(), nullable=False),
    sa.Column('last_run_at', UtcDateTime(), nullable=True),
    sa.Column('took_ms', sa.Integer(), nullable=True),
    sa.Column('findings', JsonDocument(), nullable=False),
    sa.Column('error', sa.Text(), nullable=True),
    sa.PrimaryKeyConstraint('name')
    )


def downgrade() -> None:
    op.drop_table('chores')
    op.drop_column('workers', 'queues')
    op.drop_table('task_groups')
    op.drop_index('ix_background_tasks_group_id', 'background_tasks')
    op.drop_table('idempotency_keys')
    op.execute("UPDATE task_attempts SET started_at = finished_at WHERE started_at IS NULL")
    _attempts_again(started_at_nullable=False, sqlite_with_rowid=True)
    op.drop_index('ix_background_tasks_cancel_requested', 'background_tasks')
    op.drop_index('ix_background_tasks_not_completed', 'background_tasks')
    op.create_index('ix_background_tasks_status_task_id', 'background_tasks', ['status', 'task_id'])


def _attempts_again(*, started_at_nullable: bool, sqlite_with_rowid: bool) -> None:
    if op.get_bind().dialect.name != 'sqlite':
        op.alter_column('task_attempts', 'started_at', nullable=started_at_nullable)
        return
    # SQLite cannot alter a column, nor take the rowid from a table.
    op.rename_table('task_attempts', 'task_attempts_before')
    op.create_table('task_attempts',
    sa.Column('task_id', sa.String(64), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('worker_id', sa.String(200), nullable=False),
    sa.Column('started_at', UtcDateTime(), nullable=started_at_nullable),
    sa.Column('finished_at', UtcDateTime(), nullable=True),
    sa.Column('outcome', sa.String(16), nullable=True),
    sa.Column('error_type', sa.String(200), nullable=True),
    sa.Column('error_message', sa.Text(), nullable=True),
    sa.Column('traceback', sa.Text(), nullable=True),
    sa.PrimaryKeyConstraint('task_id', 'number'),
    sqlite_with_rowid=sqlite_with_rowid
    )
    op.execute(f"INSERT INTO task_attempts ({_ATTEMPT_COLUMNS}) SELECT {_ATTEMPT_COLUMNS} FROM task_attempts_before")
    op.drop_table('task_attempts_before')
