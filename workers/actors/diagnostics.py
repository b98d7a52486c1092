"""Diagnostics: proves that a worker works.

Idempotency key: none needed; a self-test has no effect outside its own row and log lines.
"""

import time
from typing import Annotated, Any

from annotated_types import Ge, Le

from models.task import TaskType
from workers.errors import PermanentError
from workers.registry import actor
from workers.runner.current import current_task

MAX_STEPS = 1_000
MAX_SECONDS = 3_600.0
TIME_LIMIT_S = MAX_SECONDS + 60


def walk(steps: int, seconds: float, fail_at: int | None) -> dict[str, Any]:
    """Take `steps` steps in about `seconds`, reporting each; raise at step `fail_at`."""
    task = current_task()
    for step in range(1, steps + 1):
        if step == fail_at:
            task.log.error("step %d of %d fails, as asked", step, steps)
            raise PermanentError(f"the self-test failed at step {step}, as asked by fail_at={fail_at}")
        time.sleep(seconds / steps)
        task.log.info("step %d of %d done", step, steps)
        task.progress(step, steps, f"step {step} of {steps}")
    return {"steps": steps, "seconds": seconds, "attempt": task.attempt}


@actor(
    task_type=TaskType.HEALTH,
    aliases=(
        "test_background_task",
        "app.tasks.test_tasks.test_background_task",
        "app.services.background_jobs.test_background_task",
    ),
    time_limit_s=TIME_LIMIT_S,
)
def run_self_test(
    steps: Annotated[int, Ge(1), Le(MAX_STEPS)] = 5,
    seconds: Annotated[float, Ge(0), Le(MAX_SECONDS)] = 1.0,
    fail_at: Annotated[int, Ge(1)] | None = None,
) -> dict[str, Any]:
    """Walk through some steps with progress and log lines, and fail at one of them if asked.

    Args:
        steps: 1–1000.
        seconds: how long all steps take together, 0–3600.
        fail_at: the step that fails, if any.
    """
    return walk(steps, seconds, fail_at)
