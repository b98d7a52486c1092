"""What surrounds a running function: where it runs, who may interrupt it, what it can ask and report.

    surround.py      puts it around each actor's function
    window.py        where an interrupt (time limit, cancellation, shutdown notice) may land
    coroutines.py    `async def` on the event loop, waited for to its end
    isolated.py      in a child process; fork_server.py and child.py are the other side, orders.py and wire.py the words
    current.py       `current_task()`; task_logs.py keeps what it writes by Python's logging
    broker.py        the broker, in which no interrupt lands

Must not: decide outcomes; those belong to the ledger.
"""
