"""Running totals, with what the rows that are there say; what alerts need besides their opening and end.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

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


def downgrade() -> None:
    for table in ('flush_totals', 'schedule_totals', 'task_totals'):
        op.drop_table(table)


def _create(table: str, keys: tuple[sa.Column[str], ...], counts: tuple[str, ...], histograms: tuple[str, ...]) -> None:
    amounts = [sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text('0')) for name in counts]
    for name in histograms:
        amounts.append(sa.Column(f'{name}_sum', sa.Float(), nullable=False, server_default=sa.text('0')))
        amounts.extend(
            sa.Column(f'{name}_{number}', sa.BigInteger(), nullable=False, server_default=sa.text('0'))
            for number in range(_BUCKETS)
        )
    number = sa.BigInteger().with_variant(sa.Integer(), 'sqlite')
    op.create_table(table, sa.Column('id', number, primary_key=True), *keys, *amounts)
