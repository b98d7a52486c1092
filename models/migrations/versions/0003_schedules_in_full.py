"""Schedules in full: zones, bounds, policies, overrides of a declaration, runs that stand for several due times, and which timetable is in force.

Revision: 0003, after 0002.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

from models.columns import JsonDocument, UtcDateTime

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None

_ADDED: dict[str, tuple[Any, str]] = {
    'name': (sa.String(200), ''),
    'time_zone': (sa.String(64), 'UTC'),
    'misfire': (sa.String(16), 'run_once'),
    'misfire_grace_s': (sa.Integer(), '60'),
    'catch_up_max': (sa.Integer(), '100'),
    'overlap': (sa.String(16), 'skip'),
    'jitter_s': (sa.Integer(), '0'),
    'overridden': (JsonDocument(), '[]'),
}
"""Column → type and what it holds for rows that are there, and for those of older code during a rolling deploy."""
_ADDED_EMPTY = ('start_at', 'end_at', 'removed_at', 'created_at', 'updated_at')


def upgrade() -> None:
    for name, (kind, default) in _ADDED.items():
        op.add_column('schedules', sa.Column(name, kind, nullable=False, server_default=default))
    for name in _ADDED_EMPTY:
        op.add_column('schedules', sa.Column(name, UtcDateTime(), nullable=True))
    op.add_column('schedules', sa.Column('also_scheduled', sa.String(500), nullable=True))
    op.add_column('schedules', sa.Column('declared', JsonDocument(), nullable=True))
    op.add_column('schedule_runs', sa.Column('due_until', UtcDateTime(), nullable=True))
    op.add_column('schedule_runs', sa.Column('due_count', sa.Integer(), nullable=True, server_default='1'))
    op.create_table('timetables',
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('fingerprint', sa.String(64), nullable=False),
    sa.Column('asserted_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('revision'),
    sa.UniqueConstraint('fingerprint')
    )
    op.create_index('ix_schedule_runs_due_at', 'schedule_runs', ['due_at'])
    _rewrite_triggers(_with_zone_apart)


def downgrade() -> None:
    _rewrite_triggers(_with_zone_inside)
    op.drop_index('ix_schedule_runs_due_at', 'schedule_runs')
    op.drop_table('timetables')
    op.drop_column('schedule_runs', 'due_count')
    op.drop_column('schedule_runs', 'due_until')
    op.drop_column('schedules', 'declared')
    op.drop_column('schedules', 'also_scheduled')
    for name in (*_ADDED_EMPTY, *_ADDED):
        op.drop_column('schedules', name)


def _rewrite_triggers(rewritten: Callable[[dict[str, Any], str], tuple[dict[str, Any], str]]) -> None:
    table = sa.table('schedules', sa.column('schedule_id'), sa.column('trigger', JsonDocument()), sa.column('time_zone'))
    for row in op.get_bind().execute(sa.select(table)).all():
        trigger, time_zone = rewritten(row.trigger, row.time_zone)
        op.execute(table.update().where(table.c.schedule_id == row.schedule_id).values(trigger=trigger, time_zone=time_zone))


def _with_zone_apart(trigger: dict[str, Any], _time_zone: str) -> tuple[dict[str, Any], str]:
    kept = {name: value for name, value in trigger.items() if name != 'time_zone'}
    if 'expression' in kept:
        kept['kind'] = 'crontab'
    return kept, trigger.get('time_zone', 'UTC')


def _with_zone_inside(trigger: dict[str, Any], time_zone: str) -> tuple[dict[str, Any], str]:
    if trigger.get('kind') != 'crontab':
        return trigger, time_zone
    return {**trigger, 'kind': 'cron', 'time_zone': time_zone}, time_zone
