"""Tables of the domains: people, sites, vendors, permits, jobs, tickets, events; what maintenance and health need.

Documents of information reports become documents among others. On the way back those are kept, and the rows of other
documents are lost with their table (their files stay).

Revision: 0008, after 0007.
"""

import sqlalchemy as sa
from alembic import op

from models.columns import JsonDocument, UtcDateTime

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None

_KEPT = 'version, path, sha256, size_bytes, pages, task_id, created_at'


def upgrade() -> None:
    op.create_table('alert_rules',
    sa.Column('rule_id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(200), nullable=False),
    sa.Column('is_enabled', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('rule_id'),
    sa.UniqueConstraint('name')
    )
    op.create_table('cache_entries',
    sa.Column('key', sa.String(100), nullable=False),
    sa.Column('dataset', sa.String(64), nullable=False),
    sa.Column('ttl_s', sa.Integer(), nullable=False),
    sa.Column('is_enabled', sa.Boolean(), nullable=False),
    sa.Column('warmed_at', UtcDateTime(), nullable=True),
    sa.PrimaryKeyConstraint('key')
    )
    op.create_table('documents',
    sa.Column('document_id', sa.Integer(), nullable=False),
    sa.Column('kind', sa.String(32), nullable=False),
    sa.Column('subject', sa.String(64), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('path', sa.String(500), nullable=False),
    sa.Column('sha256', sa.String(64), nullable=False),
    sa.Column('size_bytes', sa.Integer(), nullable=False),
    sa.Column('pages', sa.Integer(), nullable=False),
    sa.Column('task_id', sa.String(64), nullable=True),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('document_id'),
    sa.UniqueConstraint('kind', 'subject', 'version', name='uq_documents_kind_subject_version')
    )
    op.create_index('ix_documents_created_at', 'documents', ['created_at'])
    op.create_table('feature_flags',
    sa.Column('name', sa.String(100), nullable=False),
    sa.Column('is_on', sa.Boolean(), nullable=False),
    sa.Column('changed_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('name')
    )
    op.create_table('people',
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(200), nullable=False),
    sa.Column('email', sa.String(254), nullable=False),
    sa.Column('is_active', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('person_id')
    )
    op.create_table('providers',
    sa.Column('provider', sa.String(100), nullable=False),
    sa.Column('kind', sa.String(16), nullable=False),
    sa.Column('target', sa.String(500), nullable=False),
    sa.Column('is_enabled', sa.Boolean(), nullable=False),
    sa.Column('timeout_s', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('provider')
    )
    op.create_table('sites',
    sa.Column('site_id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(200), nullable=False),
    sa.Column('address', sa.String(300), nullable=False),
    sa.Column('time_zone', sa.String(64), nullable=False),
    sa.PrimaryKeyConstraint('site_id')
    )
    op.create_table('sla_periods',
    sa.Column('period', sa.String(16), nullable=False),
    sa.Column('starts_at', UtcDateTime(), nullable=False),
    sa.Column('ends_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('period')
    )
    op.create_table('task_hours',
    sa.Column('hour_at', UtcDateTime(), nullable=False),
    sa.Column('task_name', sa.String(200), nullable=False),
    sa.Column('status', sa.String(16), nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.Column('wait_p50_s', sa.Float(), nullable=False),
    sa.Column('wait_p95_s', sa.Float(), nullable=False),
    sa.Column('wait_p99_s', sa.Float(), nullable=False),
    sa.Column('run_p50_s', sa.Float(), nullable=False),
    sa.Column('run_p95_s', sa.Float(), nullable=False),
    sa.Column('run_p99_s', sa.Float(), nullable=False),
    sa.Column('rolled_up_at', UtcDateTime(), nullable=False),
    sa.PrimaryKeyConstraint('hour_at', 'task_name', 'status')
    )
    op.create_table('vendors',
    sa.Column('vendor_id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(200), nullable=False),
    sa.Column('email', sa.String(254), nullable=False),
    sa.Column('is_active', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('vendor_id')
    )
    op.create_table('alert_events',
    sa.Column('event_id', sa.Integer(), nullable=False),
    sa.Column('rule_id', sa.Integer(), nullable=False),
    sa.Column('site_id', sa.Integer(), nullable=False),
    sa.Column('source', sa.String(200), nullable=False),
    sa.Column('message', sa.String(500), nullable=False),
    sa.Column('occurred_at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['rule_id'], ['alert_rules.rule_id'], ),
    sa.ForeignKeyConstraint(['site_id'], ['sites.site_id'], ),
    sa.PrimaryKeyConstraint('event_id')
    )
    op.create_table('alert_rule_recipients',
    sa.Column('rule_id', sa.Integer(), nullable=False),
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['person_id'], ['people.person_id'], ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['rule_id'], ['alert_rules.rule_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('rule_id', 'person_id')
    )
    op.create_table('escalation_rules',
    sa.Column('category', sa.String(64), nullable=False),
    sa.Column('level', sa.Integer(), nullable=False),
    sa.Column('after_s', sa.Integer(), nullable=False),
    sa.Column('assignee_id', sa.Integer(), nullable=True),
    sa.ForeignKeyConstraint(['assignee_id'], ['people.person_id'], ),
    sa.PrimaryKeyConstraint('category', 'level')
    )
    op.create_table('face_events',
    sa.Column('event_id', sa.Integer(), nullable=False),
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.Column('site_id', sa.Integer(), nullable=False),
    sa.Column('occurred_at', UtcDateTime(), nullable=False),
    sa.Column('verdict', sa.String(16), nullable=False),
    sa.Column('score', sa.Float(), nullable=True),
    sa.ForeignKeyConstraint(['person_id'], ['people.person_id'], ),
    sa.ForeignKeyConstraint(['site_id'], ['sites.site_id'], ),
    sa.PrimaryKeyConstraint('event_id')
    )
    op.create_table('maintenance_plans',
    sa.Column('plan_id', sa.Integer(), nullable=False),
    sa.Column('title', sa.String(200), nullable=False),
    sa.Column('site_id', sa.Integer(), nullable=False),
    sa.Column('vendor_id', sa.Integer(), nullable=True),
    sa.Column('is_enabled', sa.Boolean(), nullable=False),
    sa.Column('trigger', JsonDocument(), nullable=False),
    sa.Column('starts_at', UtcDateTime(), nullable=False),
    sa.Column('ends_at', UtcDateTime(), nullable=True),
    sa.Column('horizon_s', sa.Integer(), nullable=False),
    sa.Column('remind_before_s', sa.Integer(), nullable=True),
    sa.Column('expires_after_s', sa.Integer(), nullable=False),
    sa.Column('grace_s', sa.Integer(), nullable=False),
    sa.Column('opens_ticket', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['site_id'], ['sites.site_id'], ),
    sa.ForeignKeyConstraint(['vendor_id'], ['vendors.vendor_id'], ),
    sa.PrimaryKeyConstraint('plan_id')
    )
    op.create_table('sla_figures',
    sa.Column('period', sa.String(16), nullable=False),
    sa.Column('vendor_id', sa.Integer(), nullable=False),
    sa.Column('target_percent', sa.Float(), nullable=False),
    sa.Column('jobs', sa.Integer(), nullable=False),
    sa.Column('jobs_in_time', sa.Integer(), nullable=False),
    sa.Column('tickets', sa.Integer(), nullable=False),
    sa.Column('tickets_in_time', sa.Integer(), nullable=False),
    sa.Column('response_p50_s', sa.Float(), nullable=False),
    sa.Column('response_p95_s', sa.Float(), nullable=False),
    sa.ForeignKeyConstraint(['period'], ['sla_periods.period'], ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['vendor_id'], ['vendors.vendor_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('period', 'vendor_id')
    )
    op.create_table('subscriptions',
    sa.Column('topic', sa.String(32), nullable=False),
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['person_id'], ['people.person_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('topic', 'person_id')
    )
    op.create_table('supervisions',
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.Column('supervisor_id', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['person_id'], ['people.person_id'], ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['supervisor_id'], ['people.person_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('person_id', 'supervisor_id')
    )
    op.create_table('user_sessions',
    sa.Column('session_hash', sa.String(64), nullable=False),
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.Column('expires_at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['person_id'], ['people.person_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('session_hash')
    )
    op.create_index('ix_user_sessions_expires_at', 'user_sessions', ['expires_at'])
    op.create_table('work_permits',
    sa.Column('permit_id', sa.Integer(), nullable=False),
    sa.Column('reference', sa.String(64), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('site_id', sa.Integer(), nullable=False),
    sa.Column('vendor_id', sa.Integer(), nullable=False),
    sa.Column('requester_id', sa.Integer(), nullable=False),
    sa.Column('title', sa.String(200), nullable=False),
    sa.Column('work', sa.Text(), nullable=False),
    sa.Column('place', sa.String(300), nullable=False),
    sa.Column('source', sa.String(16), nullable=False),
    sa.Column('state', sa.String(16), nullable=False),
    sa.Column('reason', sa.String(500), nullable=True),
    sa.Column('starts_at', UtcDateTime(), nullable=False),
    sa.Column('ends_at', UtcDateTime(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.Column('state_since_at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['requester_id'], ['people.person_id'], ),
    sa.ForeignKeyConstraint(['site_id'], ['sites.site_id'], ),
    sa.ForeignKeyConstraint(['vendor_id'], ['vendors.vendor_id'], ),
    sa.PrimaryKeyConstraint('permit_id'),
    sa.UniqueConstraint('reference')
    )
    op.create_table('jobs',
    sa.Column('job_id', sa.Integer(), nullable=False),
    sa.Column('title', sa.String(200), nullable=False),
    sa.Column('site_id', sa.Integer(), nullable=False),
    sa.Column('vendor_id', sa.Integer(), nullable=True),
    sa.Column('plan_id', sa.Integer(), nullable=True),
    sa.Column('state', sa.String(16), nullable=False),
    sa.Column('due_at', UtcDateTime(), nullable=False),
    sa.Column('remind_at', UtcDateTime(), nullable=True),
    sa.Column('reminder_task_id', sa.String(64), nullable=True),
    sa.Column('expires_at', UtcDateTime(), nullable=False),
    sa.Column('closes_at', UtcDateTime(), nullable=False),
    sa.Column('opens_ticket', sa.Boolean(), nullable=False),
    sa.Column('closed_at', UtcDateTime(), nullable=True),
    sa.Column('closed_by', sa.String(200), nullable=True),
    sa.Column('closed_reason', sa.String(500), nullable=True),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['plan_id'], ['maintenance_plans.plan_id'], ondelete='SET NULL'),
    sa.ForeignKeyConstraint(['site_id'], ['sites.site_id'], ),
    sa.ForeignKeyConstraint(['vendor_id'], ['vendors.vendor_id'], ),
    sa.PrimaryKeyConstraint('job_id'),
    sa.UniqueConstraint('plan_id', 'due_at', name='uq_jobs_plan_id_due_at')
    )
    op.create_index('ix_jobs_to_close', 'jobs', ['closes_at'], sqlite_where=sa.text("state IN ('assigned', 'in_progress')"), postgresql_where=sa.text("state IN ('assigned', 'in_progress')"))
    op.create_index('ix_jobs_to_remind', 'jobs', ['remind_at'], sqlite_where=sa.text("state IN ('assigned', 'in_progress') AND remind_at IS NOT NULL AND reminder_task_id IS NULL"), postgresql_where=sa.text("state IN ('assigned', 'in_progress') AND remind_at IS NOT NULL AND reminder_task_id IS NULL"))
    op.create_table('maintenance_plan_assignees',
    sa.Column('plan_id', sa.Integer(), nullable=False),
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['person_id'], ['people.person_id'], ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['plan_id'], ['maintenance_plans.plan_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('plan_id', 'person_id')
    )
    op.create_table('work_permit_attachments',
    sa.Column('attachment_id', sa.Integer(), nullable=False),
    sa.Column('permit_id', sa.Integer(), nullable=False),
    sa.Column('file_name', sa.String(200), nullable=False),
    sa.Column('media_type', sa.String(100), nullable=False),
    sa.Column('path', sa.String(500), nullable=False),
    sa.Column('sha256', sa.String(64), nullable=False),
    sa.Column('size_bytes', sa.Integer(), nullable=False),
    sa.Column('created_at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['permit_id'], ['work_permits.permit_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('attachment_id')
    )
    op.create_index('ix_work_permit_attachments_permit_id', 'work_permit_attachments', ['permit_id'])
    op.create_table('work_permit_parties',
    sa.Column('party_id', sa.Integer(), nullable=False),
    sa.Column('permit_id', sa.Integer(), nullable=False),
    sa.Column('role', sa.String(16), nullable=False),
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.Column('decision', sa.String(16), nullable=False),
    sa.Column('note', sa.String(500), nullable=True),
    sa.Column('decided_at', UtcDateTime(), nullable=True),
    sa.ForeignKeyConstraint(['permit_id'], ['work_permits.permit_id'], ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['person_id'], ['people.person_id'], ),
    sa.PrimaryKeyConstraint('party_id'),
    sa.UniqueConstraint('permit_id', 'role', 'person_id', name='uq_work_permit_parties_permit_id_role_person_id')
    )
    op.create_table('job_assignees',
    sa.Column('job_id', sa.Integer(), nullable=False),
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.job_id'], ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['person_id'], ['people.person_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('job_id', 'person_id')
    )
    op.create_table('tickets',
    sa.Column('ticket_id', sa.Integer(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('title', sa.String(200), nullable=False),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('site_id', sa.Integer(), nullable=False),
    sa.Column('category', sa.String(64), nullable=False),
    sa.Column('state', sa.String(16), nullable=False),
    sa.Column('level', sa.Integer(), nullable=False),
    sa.Column('level_since_at', UtcDateTime(), nullable=False),
    sa.Column('assignee_id', sa.Integer(), nullable=True),
    sa.Column('job_id', sa.Integer(), nullable=True),
    sa.Column('opened_at', UtcDateTime(), nullable=False),
    sa.Column('updated_at', UtcDateTime(), nullable=False),
    sa.Column('closed_at', UtcDateTime(), nullable=True),
    sa.ForeignKeyConstraint(['assignee_id'], ['people.person_id'], ),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.job_id'], ondelete='SET NULL'),
    sa.ForeignKeyConstraint(['site_id'], ['sites.site_id'], ),
    sa.PrimaryKeyConstraint('ticket_id'),
    sa.UniqueConstraint('job_id')
    )
    op.create_index('ix_tickets_open_category_level_level_since_at', 'tickets', ['category', 'level', 'level_since_at'], sqlite_where=sa.text("state = 'open'"), postgresql_where=sa.text("state = 'open'"))
    op.create_table('used_links',
    sa.Column('nonce', sa.String(64), nullable=False),
    sa.Column('party_id', sa.Integer(), nullable=False),
    sa.Column('decision', sa.String(16), nullable=False),
    sa.Column('used_at', UtcDateTime(), nullable=False),
    sa.Column('expires_at', UtcDateTime(), nullable=False),
    sa.Column('from_address', sa.String(100), nullable=False),
    sa.ForeignKeyConstraint(['party_id'], ['work_permit_parties.party_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('nonce')
    )
    op.create_index('ix_used_links_expires_at', 'used_links', ['expires_at'])
    op.create_table('ticket_history',
    sa.Column('history_id', sa.Integer(), nullable=False),
    sa.Column('ticket_id', sa.Integer(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('change', sa.String(16), nullable=False),
    sa.Column('note', sa.String(500), nullable=False),
    sa.Column('level', sa.Integer(), nullable=False),
    sa.Column('assignee_id', sa.Integer(), nullable=True),
    sa.Column('state', sa.String(16), nullable=False),
    sa.Column('by', sa.String(200), nullable=False),
    sa.Column('task_id', sa.String(64), nullable=True),
    sa.Column('at', UtcDateTime(), nullable=False),
    sa.ForeignKeyConstraint(['assignee_id'], ['people.person_id'], ),
    sa.ForeignKeyConstraint(['ticket_id'], ['tickets.ticket_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('history_id'),
    sa.UniqueConstraint('ticket_id', 'version', name='uq_ticket_history_ticket_id_version')
    )
    op.create_table('ticket_recipients',
    sa.Column('ticket_id', sa.Integer(), nullable=False),
    sa.Column('person_id', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['person_id'], ['people.person_id'], ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['ticket_id'], ['tickets.ticket_id'], ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('ticket_id', 'person_id')
    )
    op.add_column('provider_samples', sa.Column('task_id', sa.String(64), nullable=True))
    op.create_index('uq_provider_samples_task_id', 'provider_samples', ['task_id'], unique=True)
    op.execute(
        f"INSERT INTO documents (kind, subject, {_KEPT})"
        f" SELECT 'information_report', report_id, {_KEPT} FROM report_documents ORDER BY document_id"
    )
    op.drop_table('report_documents')


def downgrade() -> None:
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
    op.execute(
        f"INSERT INTO report_documents (report_id, {_KEPT})"
        f" SELECT subject, {_KEPT} FROM documents WHERE kind = 'information_report' ORDER BY document_id"
    )
    op.drop_index('uq_provider_samples_task_id', 'provider_samples')
    op.drop_column('provider_samples', 'task_id')
    for table in (
        'ticket_recipients',
        'ticket_history',
        'used_links',
        'tickets',
        'job_assignees',
        'work_permit_parties',
        'work_permit_attachments',
        'maintenance_plan_assignees',
        'jobs',
        'work_permits',
        'user_sessions',
        'supervisions',
        'subscriptions',
        'sla_figures',
        'maintenance_plans',
        'face_events',
        'escalation_rules',
        'alert_rule_recipients',
        'alert_events',
        'vendors',
        'task_hours',
        'sla_periods',
        'sites',
        'providers',
        'people',
        'feature_flags',
        'documents',
        'cache_entries',
        'alert_rules',
    ):
        op.drop_table(table)
