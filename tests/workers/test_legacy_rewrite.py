"""Old imports and names in source become today's; what is not certain is left and said; nothing is broken."""

import ast
import json
from pathlib import Path

import pytest

from tests.workers.cli.conftest import Run, run
from workers import callboard, legacy_rewrite

__all__ = ["run"]

REWRITTEN = {
    "one name": (
        "from background_tasks.email_tasks import send_confirmation\n",
        "from workers.actors.email import send_confirmation\n",
    ),
    "a name that is another now": (
        "from background_tasks import health_check\n",
        "from workers.actors.health import check_system as health_check\n",
    ),
    "a name of one's own": (
        "from background_tasks import health_check as check\n",
        "from workers.actors.health import check_system as check\n",
    ),
    "several, of several domains": (
        "def f():\n\tfrom app.tasks import (\n\t\ttest_background_task,\n\t\thealth_check as h,\n\t)\n\treturn h\n",
        "def f():\n\tfrom workers.actors.diagnostics import run_self_test as test_background_task\n"
        "\tfrom workers.actors.health import check_system as h\n\treturn h\n",
    ),
    "a line with more on it": (
        "if 1: from app.tasks import test_background_task, health_check; x = 1\n",
        "if 1: from workers.actors.diagnostics import run_self_test as test_background_task; "
        "from workers.actors.health import check_system as health_check; x = 1\n",
    ),
    "a manager": (
        "from app.services.background_jobs import BackgroundJobService\n",
        "from workers import tasks as BackgroundJobService\n",
    ),
    "a dotted name in a text": (
        "NAMES = {'a': 'afirgen_tasks.reports.generate_pdf'}  # zwölf\n",
        "NAMES = {'a': 'reports.generate_pdf'}  # zwölf\n",
    ),
    "a plain name that is sent": (
        'ü = enqueue_task("health_check"); tasks.enqueue(task_name="test_background_task")\n',
        'ü = enqueue_task("health.check_system"); tasks.enqueue(task_name="diagnostics.run_self_test")\n',
    ),
    "a declaration": (
        'Declaration("health_check", "health_check", interval(minutes=1))\n',
        'Declaration("health_check", "health.check_system", interval(minutes=1))\n',
    ),
    "line ends of Windows, and a mark at the beginning": (
        "\ufefffrom background_tasks import health_check\r\nx = 1\r\n",
        "\ufefffrom workers.actors.health import check_system as health_check\r\nx = 1\r\n",
    ),
}  # fmt: skip
LEFT = {
    "from background_tasks import nobody_knows_it\n": "is no known actor",
    "import app.tasks.email\n": "import the actors that are used from workers.actors",
    "from background_tasks import (  # noqa\n    health_check,\n)\n": "has a comment inside",
    "x = 'afirgen_tasks.reports.' 'generate_pdf'\n": "is now 'reports.generate_pdf'",
    "def f(:\n": "it cannot be parsed",
    "x = 1\0\n": "it cannot be parsed",
    "# coding: klingon\n": "it cannot be parsed",
    "(" * 5_000: "it cannot be parsed",
    "x = " + "-" * 100_000 + "1": "it cannot be parsed",
}
UNTOUCHED = [
    "",
    "health_check = {'health_check': 1}\n",
    "print('health_check')\nlog.info('test_background_task')\n",
    "from app.models import User\n",
    "from .background_tasks import health_check\n",
    "from background_tasks_of_ours import health_check\n",
    "'''afirgen_tasks.reports.generate_pdf is the old name'''\n",
]


@pytest.mark.parametrize(("old", "new"), REWRITTEN.values(), ids=REWRITTEN.keys())
def test_what_is_certain_is_rewritten_and_nothing_else_changes(old: str, new: str) -> None:
    found = legacy_rewrite.rewrite(old.encode(), callboard.registry)

    assert found.content.decode() == new
    assert found.changes
    assert found.left == []
    again = legacy_rewrite.rewrite(found.content, callboard.registry)
    assert (again.changes, again.left) == ([], [])


@pytest.mark.parametrize(("source", "why"), LEFT.items())
def test_what_is_not_certain_is_left_and_said_with_its_line(source: str, why: str) -> None:
    found = legacy_rewrite.rewrite(source.encode(), callboard.registry)

    assert (found.content, found.changes) == (source.encode(), [])
    ((line, said),) = found.left
    assert line >= 1
    assert why in said


@pytest.mark.parametrize("source", UNTOUCHED)
def test_everyday_words_and_modules_of_others_stay(source: str) -> None:
    found = legacy_rewrite.rewrite(source.encode(), callboard.registry)

    assert (found.content, found.changes, found.left) == (source.encode(), [], [])


def test_a_file_in_another_encoding_keeps_it() -> None:
    source = "# coding: latin-1\nfrom background_tasks import health_check  # größer\n".encode("latin-1")

    found = legacy_rewrite.rewrite(source, callboard.registry)

    assert found.content == source.replace(b"background_tasks import health_check",
                                           b"workers.actors.health import check_system as health_check")  # fmt: skip


def test_what_is_rewritten_imports_the_same_actors() -> None:
    for old, new in REWRITTEN.values():
        if "import" not in old or "enqueue" in old:
            continue
        statements = [one for one in ast.walk(ast.parse(new.lstrip("\ufeff"))) if isinstance(one, ast.ImportFrom)]
        for statement in statements:
            namespace: dict[str, object] = {}
            exec(compile(ast.Module([statement], []), "new", "exec"), namespace)
            assert len(namespace) > 1, new


def test_a_tree_is_rewritten_in_place_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop" / "jobs").mkdir(parents=True)
    (tmp_path / ".venv").mkdir()
    old, new = REWRITTEN["one name"]
    for place in ("shop/a.py", "shop/jobs/b.py", ".venv/c.py", "shop/d.txt"):
        (tmp_path / place).write_text(old)
    (tmp_path / "shop" / "a.py").chmod(0o750)
    (tmp_path / "shop" / "bad.py").write_text("import app.tasks\n")

    tried = run("legacy", "rewrite", str(tmp_path), "--dry-run")
    as_json = json.loads(run("legacy", "rewrite", str(tmp_path), "--dry-run", "--json").out)
    unchanged = (tmp_path / "shop" / "a.py").read_text()
    done = run("legacy", "rewrite", str(tmp_path / "shop" / "a.py"), str(tmp_path / "shop"))
    again = run("legacy", "rewrite", str(tmp_path / "shop" / "jobs"))

    assert (tried.code, unchanged) == (1, old)
    assert "2 places in 2 files would change, 1 left to you" in tried.out
    assert [one["line"] for one in as_json["changes"]] == [1, 1]
    assert done.code == 1, "an import is left"
    assert f"{tmp_path}/shop/bad.py:1: import app.tasks" in done.err
    assert [(tmp_path / place).read_text() for place in ("shop/a.py", "shop/jobs/b.py")] == [new, new]
    assert [(tmp_path / place).read_text() for place in (".venv/c.py", "shop/d.txt")] == [old, old]
    assert (tmp_path / "shop" / "a.py").stat().st_mode & 0o777 == 0o750
    assert sorted(one.name for one in (tmp_path / "shop").iterdir()) == ["a.py", "bad.py", "d.txt", "jobs"]
    assert (again.code, again.out) == (0, "0 places in 0 files changed, 0 left to you\n")


def test_a_path_that_is_not_there_is_wrong_usage(run: Run) -> None:
    ended = run("legacy", "rewrite", "/nowhere/at/all")

    assert ended.code == 2
    assert "there is no file or folder" in ended.err
