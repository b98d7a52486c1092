"""The SQL of every move of a task's row, for many rows at once. Each is compare-and-set: made again, it does nothing.

    accept    → pending
    start     pending → running          an attempt begins; refused if the row is not waiting for this attempt
    end       pending|running → terminal, or → pending again (a retry, a shutdown)
                                         pending: start and outcome of a short first attempt are one write
    lose      running → pending|failed   its worker is dead
    cancel    pending → cancelled        request_cancel: asks, where only the worker can say whether it ran
    refuse    pending → failed           it can never start
    reopen    failed|cancelled → pending an explicit retry: the only way out of a terminal row

The fence. An attempt's number is the number of its delivery by the bus, which only grows. An outcome moves the row as
long as no later attempt has started: `attempt <= mine`. So the outcome of a worker that was declared dead too early is
kept, because it is true, until another attempt has claimed the row; from then on it is refused.
A move that is made again (its commit's answer was lost) finds the row moved and changes nothing; `outcome_of` then says
whether what is on record is its own.

Each takes a `models.direct` connection (or `models.direct.Within(session)`) and leaves the commit to its owner. On
PostgreSQL a batch is one statement, and so one round trip; on SQLite one prepared statement a row.

Each move is counted, with it or not at all (models.totals): whoever writes one more must count it too.

What a crash leaves: a transaction is done or not, so the row is as before or after the move. Who mends which state
stands in workers/ledger/upkeep.py.

Must not: decide anything about retries, time limits or the bus; read the clock.
"""

from models.direct import unstamp
from models.task_accept import NewTask, accept, accept_unique, mark_published, withdraw
from models.task_end import ERROR_MAX_CHARS, End, end, outcome_of
from models.task_loss import (
    UNKNOWN_WORKER,
    Loss,
    LostDelivery,
    crashed_attempts,
    lose,
    lost_attempts,
    note_lost_delivery,
)
from models.task_orders import cancel, refuse, reopen, request_cancel
from models.task_start import Attempt, Standing, Start, Started, standing, start, untouched

__all__ = [
    "ERROR_MAX_CHARS",
    "UNKNOWN_WORKER",
    "Attempt",
    "End",
    "Loss",
    "LostDelivery",
    "NewTask",
    "Standing",
    "Start",
    "Started",
    "accept",
    "accept_unique",
    "cancel",
    "crashed_attempts",
    "end",
    "lose",
    "lost_attempts",
    "mark_published",
    "note_lost_delivery",
    "outcome_of",
    "refuse",
    "reopen",
    "request_cancel",
    "standing",
    "start",
    "unstamp",
    "untouched",
    "withdraw",
]
