"""`callboard …`: thin. It parses, calls `workers.tasks` or `workers.process`, and shows.

Exit codes: 0 done; 1 the task failed or a check found something; 2 wrong usage or settings; 3 something that is needed
(database, Redis) cannot be reached. An error is one line on stderr that says the mend; never a traceback.
"""

from workers.cli.main import main

__all__ = ["main"]
