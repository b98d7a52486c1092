"""The audit log.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

from models.columns import JsonDocument, UtcDateTime

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('audit_log',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('at', UtcDateTime(), nullable=False),
    sa.Column('who', sa.String(100), nullable=False),
    sa.Column('via', sa.String(16), nullable=False),
    sa.Column('from_address', sa.String(100), nullable=False),
    sa.Column('action', sa.String(100), nullable=False),
    sa.Column('target', sa.String(200), nullable=False),
    sa.Column('outcome', sa.String(16), nullable=False),
    sa.Column('details', JsonDocument(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('ix_audit_log_at', 'audit_log', ['at'])


def downgrade() -> None:
    op.drop_index('ix_audit_log_at', 'audit_log')
    op.drop_table('audit_log')
