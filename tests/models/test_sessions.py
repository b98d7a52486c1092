"""A session knows every table, whatever else the process has imported: workers import a domain when a task needs it."""

import subprocess
import sys

import pytest

ALONE = """
from datetime import UTC, datetime
from models import database
database.bind({url!r})
from models.{module} import {table}
with database.writing() as session:
    session.add({table}({columns}))
"""
NOW = "datetime.now(UTC)"


@pytest.mark.parametrize(
    ("module", "table", "columns"),
    [
        ("ticket", "EscalationRule", "category='c', level=0, after_s=1"),
        ("permit", "UsedLink", f"nonce='n', party_id=1, decision='approved', expires_at={NOW}, used_at={NOW}"),
        ("job", "PlanAssignee", "plan_id=1, person_id=1"),
    ],
)
def test_a_process_that_imports_one_table_alone_can_write_it(
    module: str, table: str, columns: str, sqlite_database: str
) -> None:
    code = ALONE.format(url=sqlite_database, module=module, table=table, columns=columns)

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    # A row that refers to one that is not there is refused by the database; that is past what is tested here.
    assert "NoReferencedTableError" not in ended.stderr
    assert ended.returncode == 0 or "FOREIGN KEY constraint failed" in ended.stderr, ended.stderr
