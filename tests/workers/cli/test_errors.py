"""Each wrong input is one line on stderr with its mend and a documented exit code: never a traceback."""

import re
import signal
import socket
import threading
from pathlib import Path

import pytest
import redis

from models import database
from tests.servers import OwnRedis
from tests.workers.cli.conftest import Run, run_script
from workers import callboard, tasks
from workers.cli.main import app

PROJECT_DIR = Path(__file__).resolve().parents[3]
SELF_TEST = "diagnostics.run_self_test"
MAIL = "email.send_confirmation"


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (("enqueue", "diagnostics.run_selftest"), "did you mean diagnostics.run_self_test"),
        (("enqueue", "zzz"), "see `callboard actors`"),
        (("enqueue", "os.system"), "there is no actor 'os.system'"),
        (("enqueue", SELF_TEST, "step=5"), "did you mean 'steps'?"),
        (("enqueue", SELF_TEST, "steps=0"), "params.steps: Input should be greater than or equal to 1"),
        (("enqueue", SELF_TEST, "steps"), "expected key=value, got 'steps'"),
        (("enqueue", SELF_TEST, "=5"), "expected key=value, got '=5'"),
        (("enqueue", SELF_TEST, "--priority", "11"), "expected a whole number from 1 (last) to 10 (first), got 11"),
        (("enqueue", SELF_TEST, "--max-retries", "-1"), "max_retries: expected 0–1000, got -1"),
        (("enqueue", SELF_TEST, "--delay", "nan"), "delay_s: expected 0–"),
        (("enqueue", SELF_TEST, "--type", "email"), "is of type health, got 'email': leave it out or correct it"),
        (("enqueue", SELF_TEST, "--type", "mail"), "expected one of email, report"),
        (("enqueue", SELF_TEST, "--params", "{steps: 5}"), "--params: expected a JSON object"),
        (("enqueue", SELF_TEST, "--params", "[5]"), "--params: expected a JSON object, got '[5]'"),
        (("enqueue", SELF_TEST, "--params", "[" * 100_000), "--params: expected a JSON object"),
        (("enqueue", SELF_TEST, "--params", '{"steps": ' + "9" * 5_000 + "}"), "--params: expected a JSON object"),
        (("enqueue", SELF_TEST, "--params", '{"seconds": NaN}'), "params.seconds"),
        (("enqueue", MAIL, "fir_id=F", "recipient_email=a@b.de\nBcc: c@d.de"), r"got 'a@b.de\nBcc: c@d.de'"),
        (("enqueue", MAIL, "fir_id=F"), "params.recipient_email: Field required"),
        (("enqueue", "reports.generate_pdf", "report_id=" + "x" * 100_000), "at most 64"),
        (("tasks", "list", "--status", "done"), "expected one of pending, running, completed, failed, cancelled"),
        (("tasks", "list", "--type", "mail"), "expected one of email, report"),
        (("tasks", "show", "nobody"), "there is no task 'nobody': see `callboard tasks list`"),
        (("tasks", "watch", "nobody"), "there is no task 'nobody': see `callboard tasks list`"),
        (("tasks", "cancel", "nobody"), "there is no task 'nobody': see `callboard tasks list`"),
        (("tasks", "show", "\udcff"), "see `callboard tasks list`"),
    ],
    ids=lambda value: " ".join(value)[:50].encode("ascii", "replace").decode() if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("refusing")
def test_a_wrong_input_is_one_line_with_its_mend(run: Run, arguments: tuple[str, ...], mend: str) -> None:
    ended = run(*arguments)

    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.error_lines
    assert line.startswith("callboard: ")
    assert mend in line
    assert len(line) < 1_000
    assert tasks.get_task_count() == 0


@pytest.mark.parametrize(
    "arguments",
    [("tasks", "list", "--limit", "0"), ("tasks", "list", "--limit", "1001"), ("tasks", "list", "--offset", "-1"),
     ("tasks", "list", "--offset", "99999999999999999999"), ("enqueue",), ("enqueue", SELF_TEST, "--priority", "high"),
     ("nonsense",), ("enqueue", SELF_TEST, "--nonsense")],
)  # fmt: skip
@pytest.mark.usefixtures("refusing")
def test_wrong_usage_is_exit_code_2_without_a_traceback(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert "Usage: " in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "arguments", [("enqueue", SELF_TEST), ("tasks", "list"), ("tasks", "show", "x"), ("tasks", "cancel", "x"),
                  ("tasks", "watch", "x"), ("sample",)],
)  # fmt: skip
@pytest.mark.parametrize(("state", "mend"), [("unreadable", "set CALLBOARD_DATABASE_URL"),
                                             ("unmigrated", "run `callboard migrate`")])  # fmt: skip
def test_a_database_that_cannot_be_used_is_exit_code_3(
    run: Run, bus: object, tmp_path: Path, arguments: tuple[str, ...], state: str, mend: str
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" if state == "unreadable" else tmp_path
    database.bind(f"sqlite:///{folder / 'callboard.db'}")
    try:
        ended = run(*arguments)
    finally:
        database.bind(callboard.settings.database)

    assert (ended.code, ended.out) == (3, "")
    (line,) = ended.error_lines
    assert line.startswith("callboard: ")
    assert mend in line


@pytest.mark.parametrize("verb", ["migrate", "check"])
def test_a_database_in_an_impossible_place_is_said_by_migrate_and_check(run: Run, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").touch()
    database.bind(f"sqlite:///{tmp_path / 'file' / 'callboard.db'}")
    try:
        ended = run(verb)
    finally:
        database.bind(callboard.settings.database)

    assert (ended.code, ended.out) == ({"migrate": 3, "check": 1}[verb], "")
    (line,) = ended.error_lines
    assert "CALLBOARD_DATABASE_URL" in line


def test_without_redis_the_console_script_accepts_a_task_for_the_relay(sqlite_database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    ended = run_script(
        "enqueue", SELF_TEST, CALLBOARD_DATABASE_URL=sqlite_database, CALLBOARD_REDIS_URL=f"redis://127.0.0.1:{port}"
    )

    found = tasks.get_task(ended.out.strip())
    assert ended.code == 0
    assert found is not None
    assert (found.status, found.enqueued_at) == ("pending", None)
    (line,) = ended.error_lines
    assert line == "Redis does not answer: the task is accepted, and goes out by itself when it is back"


@pytest.mark.usefixtures("system")
def test_with_redis_full_it_says_so_and_not_that_redis_is_away(run: Run, own_redis: OwnRedis) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", "1mb")
        try:
            ended = run("enqueue", SELF_TEST)
        finally:
            client.config_set("maxmemory", "0")

    found = tasks.get_task(ended.out.strip())
    assert ended.code == 0
    assert found is not None
    assert (found.status, found.enqueued_at) == ("pending", None)
    assert ended.error_lines == ["Redis is full: the task is accepted, and goes out by itself when it has room"]


def test_a_verb_that_asks_the_bus_itself_is_exit_code_3_with_redis_away(run: Run, own_redis: OwnRedis) -> None:
    app.command("depth")(lambda: callboard.broker.depth("jobs", timeout_s=0.2))
    own_redis.kill()

    try:
        ended = run("depth")
    finally:
        app.registered_commands.pop()

    assert (ended.code, ended.out) == (3, "")
    (line,) = ended.error_lines
    assert line.startswith("callboard: ")
    assert line.endswith("check that Redis is running and reachable, or set CALLBOARD_REDIS_URL")


def test_a_wrong_setting_stops_the_console_script_with_one_line() -> None:
    ended = run_script("tasks", "list", CALLBOARD_THREADS="many")

    assert ended.code == 2
    (line,) = ended.error_lines
    assert line.startswith("callboard: CALLBOARD_THREADS='many' is wrong")


@pytest.mark.usefixtures("system")
def test_exit_codes_are_those_of_the_readme_and_of_help(run: Run, tmp_path: Path) -> None:
    documented = re.findall(r"^\| (\d+) \| ", (PROJECT_DIR / "README.md").read_text(), re.MULTILINE)
    came: list[int] = [run("actors").code, run("inventory", "--check", "--output", str(tmp_path / "none.csv")).code]
    came.append(run("tasks", "list", "--limit", "0").code)
    url = database.bound_url()
    database.bind(f"sqlite:///{tmp_path / 'none.db'}")
    try:
        came.append(run("tasks", "list").code)
    finally:
        database.bind(url)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # why: xdist's workers ignore it.
    pressed = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    pressed.start()
    try:
        came.append(run("enqueue", SELF_TEST, "--wait", "--timeout", "60").code)
    finally:
        pressed.cancel()
        pressed.join()
        signal.signal(signal.SIGINT, before)

    assert came == [0, 1, 2, 3, 130]
    assert [int(code) for code in documented] == came
    epilog = app.info.epilog
    assert isinstance(epilog, str)
    assert [int(code) for code in re.findall(r"\b(\d+)\b", epilog)] == came
