"""`import workers` is quiet and light. What it costs in time is measured by tests/benchmarks/import_cost.py."""

import subprocess
import sys
from pathlib import Path

HEAVY = (
    *("reportlab", "jinja2", "fastapi", "uvicorn", "typer", "rich", "aiosmtpd", "psutil"),
    *("sqlalchemy", "sqlmodel", "alembic", "psycopg"),
)
IMPORT_QUIETLY = """
import sys
opened = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "sqlite3.connect",
                 "subprocess.Popen", "os.fork"):
        opened.append((event, arguments[1:]))
sys.addaudithook(watch)
sys.modules["opentelemetry.sdk"] = None  # as without the extra `traces`; else redis-py imports it, and psutil
import workers
print(opened, sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[1:])))
"""


def test_importing_workers_opens_no_connection_and_imports_no_heavy_library(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT_QUIETLY, *HEAVY], capture_output=True, text=True, check=False
    )  # fmt: skip

    assert (ended.stderr, ended.stdout) == ("", "[] []\n")
