"""Celery beat and APScheduler are found under every alias; what only looks like them is not."""

import pytest

from tests.periodic.elsewhere.conftest import Planted

CELERY = [
    ("from celery import Celery\napp = Celery()\napp.conf.beat_schedule = {\n  'a': {'task': 't.a', 'schedule': 30},\n"
     "  'b': {'task': 't.b', 'schedule': 30},\n}\n", [(4, "a"), (5, "b")]),
    ("beat_schedule = {'a': {'task': 't.a', 'schedule': 30}}\n", [(1, "a")]),
    ("CELERY_BEAT_SCHEDULE = {'a': {'task': 't.a'}}\n", [(1, "a")]),
    ("CELERYBEAT_SCHEDULE: dict = dict(a=dict(task='t.a'))\n", [(1, "a")]),
    ("class Config:\n    beat_schedule = {'a': {'task': 't.a'}}\n", [(2, "a")]),
    ("app.conf.update(timezone='UTC', beat_schedule={'a': {'task': 't.a'}})\n", [(1, "a")]),
    ("app.conf.update({'beat_schedule': {'a': {'task': 't.a'}}})\n", [(1, "a")]),
    ("app.conf.beat_schedule.update({'a': {'task': 't.a'}})\n", [(1, "a")]),
    ("app.conf.beat_schedule['a'] = {'task': 't.a'}\n", [(1, "a")]),
    ("app.conf['beat_schedule'] = {'a': {'task': 't.a'}}\n", [(1, "a")]),
    ("app.conf.beat_schedule |= {'a': {'task': 't.a'}}\n", [(1, "a")]),
    ("JOBS = {\n  'a': {'task': 't.a'}}\napp.conf.beat_schedule = JOBS\n", [(2, "a")]),
    ("app.conf.beat_schedule = {**make(), 'a': {'task': 't.a'}}\n", [(1, "make()"), (1, "a")]),
    ("app.conf.beat_schedule = load('beat.yaml')\n", [(1, "load('beat.yaml')")]),
    ("CELERY_BEAT_SCHEDULE = build()\n", [(1, "build()")]),
    ("@app.on_after_configure.connect\ndef setup(s, **_):\n    s.add_periodic_task(10.0, a.s(), name='every')\n"
     "    s.add_periodic_task(crontab(hour=7), a.s('x'))\n", [(3, "every"), (4, "a.s('x')")]),
    ("from celery.task import periodic_task as each\n@each(run_every=60)\ndef poll(): ...\n", [(2, "poll")]),
]  # fmt: skip
APSCHEDULER = [
    ("from apscheduler.schedulers.background import BackgroundScheduler as BS\ns = BS()\ns.add_job(poll)\n",
     [(3, "poll")]),
    ("import apscheduler.schedulers.asyncio as aps\n@aps.AsyncIOScheduler().scheduled_job('cron', hour=3)\n"
     "def nightly(): ...\n", [(2, "nightly")]),
    ("from app.extensions import scheduler\nscheduler.add_job(poll, 'interval', seconds=5)\n", [(2, "poll")]),
    ("from app.extensions import scheduler\n@scheduler.scheduled_job('interval', seconds=5)\ndef poll(): ...\n",
     [(2, "poll")]),
    ("from flask_apscheduler import APScheduler\nAPScheduler().add_job(id='x', func=poll, trigger='interval')\n",
     [(2, "poll")]),
    ("class Jobs:\n    def start(self):\n        self._s.add_job(\n            self.poll, trigger='cron', minute=5)\n",
     [(3, "self.poll")]),
    ("from apscheduler import Scheduler\nwith Scheduler() as s:\n    s.add_schedule(poll, IntervalTrigger())\n",
     [(3, "poll")]),
]  # fmt: skip
CLEAN = [
    "beat_schedule = None\n",
    "app.conf.beat_schedule = {}\n",
    "print(app.conf.beat_schedule)\n",
    "def show(app):\n    beat_schedule = app.conf.beat_schedule\n    return len(beat_schedule)\n",
    "SCHEMA = {'beat_schedule': {'type': 'object'}}\n",
    "text = 'app.conf.beat_schedule = {1: 2}; s.add_job(f, \"cron\")'\n",
    "printer.add_job(document)\n",
    "printer.add_job(document, 'a4')\n",
    "rota.scheduled_job('Tuesday')\n",
    "from huey import periodic_task\nclass T:\n    periodic_task(1)\n",
    "from celery import Celery\napp = Celery()\n@app.task\ndef a(): ...\na.delay()\n",
    "import apscheduler\nprint(apscheduler.version)\n",
]


@pytest.mark.parametrize(("code", "expected"), CELERY)
def test_celery_beat_is_found_in_every_spelling(hits: Planted, code: str, expected: list[tuple[int, str]]) -> None:
    assert hits({"app/config.py": code}) == [("app/config.py", line, name) for line, name in expected]


@pytest.mark.parametrize(("code", "expected"), APSCHEDULER)
def test_apscheduler_jobs_are_found_under_any_alias(hits: Planted, code: str, expected: list[tuple[int, str]]) -> None:
    assert hits({"app/jobs.py": code}) == [("app/jobs.py", line, name) for line, name in expected]


@pytest.mark.parametrize("code", CLEAN)
def test_what_only_looks_like_a_schedule_is_none(hits: Planted, code: str) -> None:
    assert hits({"app/clean.py": code}) == []


def test_a_script_without_suffix_is_python_by_its_first_line(hits: Planted) -> None:
    assert hits({"bin/run": "#!/usr/bin/env python3\nbeat_schedule = {'a': {'task': 't'}}\n"}) == [("bin/run", 2, "a")]


def test_a_file_in_another_encoding_is_read(hits: Planted) -> None:
    code = "# -*- coding: latin-1 -*-\nname = 'Zoë'\nbeat_schedule = {'é': {'task': 't'}}\n".encode("latin-1")

    assert [(file, line) for file, line, _ in hits({"old.py": code})] == [("old.py", 3)]
