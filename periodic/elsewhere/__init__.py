"""Schedulers outside this system, found in a tree of files: a job belongs to one scheduler (spec/schedules.md).

What is found, always with file and line:

    kubernetes.py     a `CronJob` in YAML or JSON, Helm templates and lists too
    crontab.py        an entry in a crontab, or in a shell script or Dockerfile that writes one
    celery.py         entries of `beat_schedule` and its older names, `add_periodic_task`, `@periodic_task`
    apscheduler.py    `add_job`, `@scheduled_job`, `add_schedule`
    loops.py          `while True:` with a pause in a coroutine that is started as a task; a bare `create_task` never

Who wants one of them beside Callboard says so in a comment on its line, or directly above it, with the reason:

    # callboard: also-scheduled the old cluster runs it until May

How: `tree.py` names the files (bounded; no hidden folders, virtual environments, node_modules or linked folders), the
bytes of each are searched for a word that such a job cannot do without, and only what has one is parsed. Nothing that
is found is imported or run. What cannot be read or parsed is a warning, never an error.
"""

from periodic.elsewhere.found import Found, Hit
from periodic.elsewhere.search import look

__all__ = ["Found", "Hit", "look"]
