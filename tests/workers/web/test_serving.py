"""`python -m workers.web`: serves on loopback, and refuses to leave it."""

import os
import socket
import subprocess
import sys

import httpx2
import pytest

from tests.servers import end, wait_until
from workers import tasks
from workers.errors import SettingsError
from workers.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_loopback_address_is_taken(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("CALLBOARD_API_HOST", host)

    assert Settings.load().api_host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "::ffff:192.168.1.5"])
def test_any_other_address_stops_the_start_with_the_mend(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("CALLBOARD_API_HOST", host)

    with pytest.raises(SettingsError, match=r"expected a loopback address .* set CALLBOARD_API_TOKENS"):
        Settings.load()


def test_the_server_refuses_to_open_itself_to_the_network() -> None:
    environment = os.environ | {"CALLBOARD_API_HOST": "0.0.0.0", "CALLBOARD_API_PORT": str(_free_port())}

    ended = subprocess.run(
        [sys.executable, "-m", "workers.web"], env=environment, capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("callboard: CALLBOARD_API_HOST='0.0.0.0' is wrong: expected a loopback address")


def test_with_redis_gone_it_takes_tasks_and_says_that_they_are_deferred(sqlite_database: str) -> None:
    port = _free_port()
    environment = os.environ | {
        "CALLBOARD_API_PORT": str(port),
        "CALLBOARD_DATABASE_URL": sqlite_database,
        "CALLBOARD_REDIS_URL": f"redis://127.0.0.1:{_free_port()}",
    }
    process = subprocess.Popen([sys.executable, "-m", "workers.web"], env=environment)
    try:
        wait_until(lambda: _answers(port), within_s=30, what="an answer of the API")

        answer = httpx2.post(
            f"http://127.0.0.1:{port}/api/tasks/enqueue", json={"task_name": "diagnostics.run_self_test"}
        )

        process.terminate()
        process.wait(timeout=90)
    finally:
        end(process)
    assert (answer.status_code, answer.json()["delivery"]) == (201, "deferred")
    found = tasks.get_task(answer.json()["task_id"])
    assert found is not None
    assert (found.status, found.enqueued_at) == ("pending", None)
    assert process.returncode in (0, -15)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health/live").json() == {"status": "live"}
    except httpx2.TransportError:
        return False
