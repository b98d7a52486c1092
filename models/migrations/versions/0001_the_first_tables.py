"""The first tables.

Revision: 0001, after None.
"""

import sqlalchemy as sa
from alembic import op

from models.columns import JsonDocument, UtcDateTime

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('alerts',
    sa.Column('alert_id', sa.Integer(), nullable=False),
    sa.Column('key', sa.String(200), nullable=False),
    sa.Column('message', sa.String(500), nullable=False),
    sa.Column('opened_at', UtcDateTime(), nullable=False),
    sa.Column('closed_at', UtcDateTime(), nullable=True),
    sa.Column('notice_task_id', sa.String(64), nullable=True),
    sa.PrimaryKeyConstraint('alert_id')
    )
    op.create_index('uq_alerts_open_key', 'alerts', ['key'], unique=True, sqlite_where=sa.text('closed_at IS NULL'), postgresql_where=sa.text('closed_at IS NULL'))

    op.create_table('background_tasks',
    sa.Column('task_id', sa.String(64), nullable=False),
    sa.Column('task_name', sa.String(200), nullable=False),
    sa.Column('task_type', sa.String(32), nullable=True),
    sa.Column('queue', sa.String(100), nullable=False),
    sa.Column('priority', sa.Integer(), nullable=False),
    sa.Column('status', sa.String(16), nullable=False),
    sa.Column('reason', sa.String(500), nullable=True),
    sa.Column('params', JsonDocument(), nullable=False),
    sa.Column('options', JsonDocument(), nullable=False),
    sa.Column('result', JsonDocument(), nullable=True),
    sa.Column('result_pruned_at', UtcDateTime(), nullable=True),
    sa.Column('error_type', sa.String(200), nullable=True),
    sa.Column('error_message', sa.Text(), nullable=True),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('retry_count', sa.Integer(), nullable=False),
    sa.Column('max_retries', sa.Integer(), nullable=False),
    sa.Column('progress', sa.Float(), nullable=True),
    sa.Column('progress_message', sa.String(500), nullable=True),
    sa.Column('worker_id', sa.String(200), nullable=True),
    sa.Column('correlation_id', sa.String(100), nullable=True),
    sa.Column('parent_id', sa.String(64), nullable=True),
    sa.Column('group_id', sa.String(64), nullable=True),
    sa.Column('schedule_id', sa.String(100), nullable=True),
    sa.Column('idempotency_key', sa.String(200), nullable=True),
    sa.Column('tags', JsonDocument(), nullable=False),
    sa.Column('eta', UtcDateTime(), nullable=True),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.Column('enqueued_at', UtcDateTime(), nullable=True),
    sa.Column('started_at', UtcDateTime(), nullable=True),
    sa.Column('completed_at', UtcDateTime(), nullable=True),
    sa.Column('cancel_requested_at', UtcDateTime(), nullable=True),
    sa.PrimaryKeyConstraint('task_id')
    )
    op.create_index('ix_background_tasks_name_task_id', 'background_tasks', ['task_name', 'task_id'])
    op.create_index('ix_background_tasks_status_task_id', 'background_tasks', ['status', 'task_id'])
    op.create_index('ix_background_tasks_type_task_id', 'background_tasks', ['task_type', 'task_id'])
    op.create_index('ix_background_tasks_unpublished', 'background_tasks', ['task_id'], sqlite_where=sa.text("status = 'pending' AND enqueued_at IS NULL"), postgresql_where=sa.text("status = 'pending' AND enqueued_at IS NULL"))

    op.create_table('email_deliveries',
    sa.Column('delivery_id', sa.Integer(), nullable=False),
    sa.Column('task_id', sa.String(64), nullable=False),
    sa.Column('recipient', sa.String(320), nullable=False),
    sa.Column('message_id', sa.String(200), nullable=False),
    sa.Column('template', sa.String(100), nullable=False),
    sa.Column('subject', sa.String(300), nullable=False),
    sa.Column('outcome', sa.String(16), nullable=False),
    sa.Column('smtp_response', sa.String(1000), nullable=True),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.Column('sent_at', UtcDateTime(), nullable=True),
    sa.PrimaryKeyConstraint('delivery_id'),
    sa.UniqueConstraint('task_id', 'recipient', name='uq_email_deliveries_task_id_recipient')
    )
    op.create_table('health_samples',
    sa.Column('task_id', sa.String(64), nullable=False),
    sa.Column('sampled_at', UtcDateTime(), nullable=False),
    sa.Column('hostname', sa.String(200), nullable=False),
    sa.Column('cpu_percent', sa.Float(), nullable=False),
    sa.Column('memory_percent', sa.Float(), nullable=False),
    sa.Column('disk_percent', sa.Float(), nullable=False),
    sa.Column('database_ms', sa.Float(), nullable=False),
    sa.Column('redis_ms', sa.Float(), nullable=False),
    sa.Column('queue_age_s', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('task_id')
    )
    op.create_index('ix_health_samples_sampled_at', 'health_samples', ['sampled_at'])

    op.create_table('information_reports',
    sa.Column('report_id', sa.String(64), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('complainant_name', sa.String(200), nullable=False),
    sa.Column('complainant_contact', sa.String(200), nullable=False),
    sa.Column('station', sa.String(200), nullable=False),
    sa.Column('district', sa.String(200), nullable=False),
    sa.Column('incident_place', sa.String(300), nullable=False),
    sa.Column('incident_at', UtcDateTime(), nullable=True),
    sa.Column('filed_at', UtcDateTime(), nullable=False),
    sa.Column('summary', sa.String(500), nullable=False),
    sa.Column('narrative', sa.Text(), nullable=False),
    sa.Column('officer_name', sa.String(200), nullable=False),
    sa.PrimaryKeyConstraint('report_id')
    )
    op.create_table('report_documents',
    sa.Column('document_id', sa.Integer(), nullable=False),
    sa.Column('report_id', sa.String(64), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('path', sa.String(500), nullable=False),
    sa.Column('sha256', sa.String(64), nullable=False),
    sa.Column('size_bytes', sa.Integer(), nullable=False),
    sa.Column('pages', sa.Integer(), nullable=False),
    sa.Column('task_id', sa.String(64), nullable=True),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('document_id'),
    sa.UniqueConstraint('report_id', 'version', name='uq_report_documents_report_id_version')
    )
    op.create_table('schedule_runs',
    sa.Column('schedule_id', sa.String(100), nullable=False),
    sa.Column('due_at', UtcDateTime(), nullable=False),
    sa.Column('outcome', sa.String(32), nullable=False),
    sa.Column('reason', sa.String(500), nullable=True),
    sa.Column('task_id', sa.String(64), nullable=True),
    sa.Column('lateness_ms', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('schedule_id', 'due_at')
    )
    op.create_table('schedules',
    sa.Column('schedule_id', sa.String(100), nullable=False),
    sa.Column('actor', sa.String(200), nullable=False),
    sa.Column('params', JsonDocument(), nullable=False),
    sa.Column('trigger', JsonDocument(), nullable=False),
    sa.Column('enabled', sa.Boolean(), nullable=False),
    sa.Column('priority', sa.Integer(), nullable=True),
    sa.Column('max_retries', sa.Integer(), nullable=False),
    sa.Column('time_limit_s', sa.Integer(), nullable=False),
    sa.Column('origin', sa.String(16), nullable=False),
    sa.Column('last_run_at', UtcDateTime(), nullable=True),
    sa.Column('last_task_id', sa.String(64), nullable=True),
    sa.Column('next_run_at', UtcDateTime(), nullable=True),
    sa.Column('run_count', sa.Integer(), nullable=False),
    sa.Column('error', sa.String(500), nullable=True),
    sa.PrimaryKeyConstraint('schedule_id')
    )
    op.create_index('ix_schedules_next_run_at', 'schedules', ['next_run_at'])

    op.create_table('task_attempts',
    sa.Column('task_id', sa.String(64), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('worker_id', sa.String(200), nullable=False),
    sa.Column('started_at', UtcDateTime(), nullable=False),
    sa.Column('finished_at', UtcDateTime(), nullable=True),
    sa.Column('outcome', sa.String(16), nullable=True),
    sa.Column('error_type', sa.String(200), nullable=True),
    sa.Column('error_message', sa.Text(), nullable=True),
    sa.Column('traceback', sa.Text(), nullable=True),
    sa.PrimaryKeyConstraint('task_id', 'number')
    )
    op.create_table('task_logs',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('task_id', sa.String(64), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('logged_at', UtcDateTime(), nullable=False),
    sa.Column('level', sa.String(16), nullable=False),
    sa.Column('message', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('ix_task_logs_task_id', 'task_logs', ['task_id', 'id'])

    op.create_table('workers',
    sa.Column('worker_id', sa.String(200), nullable=False),
    sa.Column('hostname', sa.String(200), nullable=False),
    sa.Column('pid', sa.Integer(), nullable=False),
    sa.Column('threads', sa.Integer(), nullable=False),
    sa.Column('started_at', UtcDateTime(), nullable=False),
    sa.Column('heartbeat_at', UtcDateTime(), nullable=False),
    sa.Column('stopped_at', UtcDateTime(), nullable=True),
    sa.PrimaryKeyConstraint('worker_id')
    )


def downgrade() -> None:
    op.drop_table('workers')

    op.drop_table('task_logs')
    op.drop_table('task_attempts')

    op.drop_table('schedules')
    op.drop_table('schedule_runs')
    op.drop_table('report_documents')
    op.drop_table('information_reports')

    op.drop_table('health_samples')
    op.drop_table('email_deliveries')

    op.drop_table('background_tasks')

    op.drop_table('alerts')
