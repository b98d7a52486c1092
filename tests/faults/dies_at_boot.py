"""Kills the first Dramatiq worker process that imports it, in the middle of its boot.

CALLBOARD_TEST_BOOT_DEATH names the file whose making decides who is the first; the supervisor, which imports actors
too, is left alone.
"""

import multiprocessing
import os
import signal

if multiprocessing.parent_process() is not None:
    try:
        os.close(os.open(os.environ["CALLBOARD_TEST_BOOT_DEATH"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass
    else:
        os.kill(os.getpid(), signal.SIGKILL)
