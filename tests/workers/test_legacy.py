"""Old names and old imports lead to today's actors."""

import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers import callboard, legacy, tasks

NAMES = {
    "afirgen_tasks.email.send_confirmation": "email.send_confirmation",
    "afirgen_tasks.reports.generate_pdf": "reports.generate_pdf",
    "system_health_check_job": "health.check_system",
    "health_check": "health.check_system",
    "test_background_task": "diagnostics.run_self_test",
    "app.tasks.test_tasks.test_background_task": "diagnostics.run_self_test",
    "app.services.background_jobs.test_background_task": "diagnostics.run_self_test",
}
"""The legacy names of these domains in spec/inventory.md, written down a second time."""
IMPORTS = [
    ("background_tasks", "test_background_task", "diagnostics.run_self_test"),
    ("background_tasks", "health_check", "health.check_system"),
    ("background_tasks.tasks", "system_health_check_job", "health.check_system"),
    ("background_tasks.email_tasks", "send_confirmation", "email.send_confirmation"),
    ("background_tasks.reports_tasks", "generate_pdf", "reports.generate_pdf"),
    ("app.tasks", "test_background_task", "diagnostics.run_self_test"),
    ("app.tasks.test_tasks", "test_background_task", "diagnostics.run_self_test"),
    ("app.services.background_jobs", "test_background_task", "diagnostics.run_self_test"),
    ("backgroundtask.taskplugins", "health_check", "health.check_system"),
]


@pytest.fixture(autouse=True)
def fresh_modules() -> Iterator[None]:
    """Forget the legacy modules and their counts before and after."""
    forget()
    yield
    forget()


def forget() -> None:
    legacy.uses.clear()
    for name in [*sys.modules]:
        if name.partition(".")[0] in {"app", "background_tasks", "backgroundtask"}:
            del sys.modules[name]


def import_from(module: str, name: str) -> Any:
    """`from module import name`, as a statement."""
    namespace: dict[str, Any] = {}
    exec(f"from {module} import {name}", namespace)
    return namespace[name]


@pytest.mark.parametrize(("name", "canonical"), NAMES.items())
def test_a_legacy_name_resolves_to_its_actor(name: str, canonical: str) -> None:
    assert callboard.registry.resolve(name).actor_name == canonical


@pytest.mark.parametrize(("module", "name", "canonical"), IMPORTS)
def test_a_legacy_import_yields_the_same_object_with_a_warning_and_is_counted_once(
    module: str, name: str, canonical: str
) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{module}\.{name} is a legacy name: use {canonical}") as caught:
        found = import_from(module, name)

    assert found is callboard.registry.actors[canonical]
    assert len(caught) == 1
    assert caught[0].filename == "<string>"  # The importing statement, not the finder.
    assert legacy.uses == {f"{module}.{name}": 1}


def test_an_attribute_of_a_legacy_module_is_counted_each_time_that_it_is_used() -> None:
    module = importlib.import_module("background_tasks.tasks")

    with pytest.warns(DeprecationWarning, match="use health.check_system"):
        assert [module.health_check, module.health_check] == [callboard.registry.actors["health.check_system"]] * 2

    assert legacy.uses == {"background_tasks.tasks.health_check": 2}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("background_tasks", "BackgroundTaskManager"),
        ("background_tasks.tasks", "BackgroundTaskManager"),
        ("app.services.background_jobs", "BackgroundJobService"),
    ],
)
def test_the_legacy_managers_are_the_python_interface(module: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{name} is a legacy name: use workers\.tasks"):
        found = import_from(module, name)

    assert found is tasks


def test_an_unknown_attribute_says_where_the_names_are() -> None:
    module = importlib.import_module("background_tasks")

    with pytest.raises(AttributeError, match=r"background_tasks\.paint_the_fence is no known actor: see `callboard"):
        _ = module.paint_the_fence
    with pytest.raises(ImportError, match="paint_the_fence"):
        import_from("background_tasks", "paint_the_fence")

    assert not legacy.uses


@pytest.mark.parametrize(
    "name", ["background_task", "app.models", "app.services.mail", "backgroundtask.other", "app.tasks.a.b", "apps"]
)
def test_no_other_module_is_made_up(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)


def test_importing_a_legacy_module_alone_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.import_module("app.services.background_jobs")

    assert not legacy.uses


def test_installing_twice_changes_nothing() -> None:
    before = [*sys.meta_path]

    legacy.install(callboard.registry)

    assert sys.meta_path == before
    assert sum(isinstance(one, legacy.LegacyFinder) for one in sys.meta_path) == 1


REAL_MODULES_WIN = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
import workers
import app, app.tasks.test_tasks
assert app.OWNER == "the application", app
assert app.tasks.test_tasks.test_background_task() == "its own"
try:
    app.BackgroundTaskManager
except AttributeError:
    pass
else:
    raise AssertionError("the real package was given our names")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from app.services.background_jobs import test_background_task
    from background_tasks import test_background_task as another
assert test_background_task is another is workers.callboard.registry.actors["diagnostics.run_self_test"]
"""


def test_real_modules_of_those_names_win_and_the_rest_is_still_found(tmp_path: Path) -> None:
    (tmp_path / "app" / "tasks").mkdir(parents=True)
    (tmp_path / "app" / "__init__.py").write_text("OWNER = 'the application'\n")
    (tmp_path / "app" / "tasks" / "__init__.py").write_text("")
    (tmp_path / "app" / "tasks" / "test_tasks.py").write_text("def test_background_task():\n    return 'its own'\n")

    ended = subprocess.run(
        [sys.executable, "-c", REAL_MODULES_WIN, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stderr) == (0, "")
