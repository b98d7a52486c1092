"""An actor that tells what its worker process has loaded, for test_worker_imports."""

import os
import sys

from models.task import TaskType
from workers.registry import actor
from workers.runner.current import current_task


@actor(task_type=TaskType.JOB, name="loaded.packages")
def packages(page: int) -> dict[str, object]:
    """The names of all packages; with a line and progress, as many tasks have."""
    current_task().log.info("page %d", page)
    current_task().progress(1, 1)
    return {"pid": os.getpid(), "packages": sorted({name.partition(".")[0] for name in sys.modules})}
