"""Running totals, with what the rows that are there say; what alerts need besides their opening and end.

Revision: 0005, after 0004.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from models.columns import JsonDocument, UtcDateTime

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None

_BUCKETS = 11
_TASKS = ('completed', 'failed', 'cancelled', 'reopened', 'withdrawn', 'retried', 'lost')
_SCHEDULES = ('sent', 'missed', 'overlapped')


def upgrade() -> None:
    keys = (sa.Column('task_name', sa.String(200), nullable=False), sa.Column('queue', sa.String(100), nullable=False))
    _create('task_totals', keys, _TASKS, ('wait', 'run'))
    _create('schedule_totals', (), _SCHEDULES, ('late',))
    _create('flush_totals', (), (), ('seconds', 'rows'))
    # why: one walk through all rows, so that the totals are those of the rows that are there.
    counts = ', '.join(f"sum(CASE WHEN status = '{status}' THEN 1 ELSE 0 END)" for status in _TASKS[:3])
    op.execute(
        'INSERT INTO task_totals (task_name, queue, completed, failed, cancelled)'
        f" SELECT task_name, queue, {counts} FROM background_tasks GROUP BY task_name, queue"
    )
    op.create_table('alert_samples',
    sa.Column('sampled_at', UtcDateTime(), primary_key=True),
    sa.Column('totals', JsonDocument(), nullable=False),
    )
    op.create_table('provider_samples',
    sa.Column('provider', sa.String(100), primary_key=True),
    sa.Column('sampled_at', UtcDateTime(), primary_key=True),
    sa.Column('is_up', sa.Boolean(), nullable=False),
    sa.Column('latency_ms', sa.Float(), nullable=True),
    sa.Column('error', sa.String(500), nullable=True),
    )
    for column in _alert_columns():
        op.add_column('alerts', column)
    op.drop_column('alerts', 'notice_task_id')


def _alert_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column('rule', sa.String(32), nullable=False, server_default='health'),
        sa.Column('count', sa.BigInteger(), nullable=False, server_default='1'),
        sa.Column('baseline', sa.BigInteger(), nullable=True),
        sa.Column('seen_at', UtcDateTime(), nullable=True),
        sa.Column('acknowledged_at', UtcDateTime(), nullable=True),
        sa.Column('acknowledged_by', sa.String(100), nullable=True),
        sa.Column('notices', JsonDocument(), nullable=False, server_default='[]'),
        sa.Column('told', JsonDocument(), nullable=False, server_default='[]'),
    ]


def downgrade() -> None:
    op.add_column('alerts', sa.Column('notice_task_id', sa.String(64), nullable=True))
    for column in reversed(_alert_columns()):
        op.drop_column('alerts', column.name)
    op.drop_table('provider_samples')
    op.drop_table('alert_samples')
    for table in ('flush_totals', 'schedule_totals', 'task_totals'):
        op.drop_table(table)


def _create(table: str, keys: tuple[sa.Column[Any], ...], counts: tuple[str, ...], histograms: tuple[str, ...]) -> None:
    amounts: list[sa.Column[Any]] = [sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text('0')) for name in counts]
    for name in histograms:
        amounts.append(sa.Column(f'{name}_sum', sa.Float(), nullable=False, server_default=sa.text('0')))
        amounts.extend(
            sa.Column(f'{name}_{number}', sa.BigInteger(), nullable=False, server_default=sa.text('0'))
            for number in range(_BUCKETS)
        )
    number = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
    op.create_table(table, sa.Column('id', number, primary_key=True), *keys, *amounts)
