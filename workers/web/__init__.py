"""The REST API. `create_app()` makes the application, `create_task_router()` its task routes.

Must not: act by itself; it calls `workers.tasks`, as the CLI does.
"""

from workers.web.app import create_app
from workers.web.correlation import Correlated
from workers.web.routes import create_task_router

__all__ = ["Correlated", "create_app", "create_task_router"]
