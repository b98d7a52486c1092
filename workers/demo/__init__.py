"""`callboard demo`: a working day through all domains on the running system, told as a table.

    records.py   what happens that day: an overdue job, a ticket that waits, a permit, an event, a service that fails
    mailbox.py   the mails that the catcher kept meanwhile, and the links in them
    day.py       the steps: each sends tasks, waits for what they must bring about, and says what it saw

Everything is real: tasks go through Redis to the workers, mail over SMTP, links over HTTP. It can be run again: each
run has records of its own.
"""
