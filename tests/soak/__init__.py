"""The soak: a workload of every kind under every fault, judged by evidence that the tasks write outside the ledger.

    plan       what is done: how many tasks, how long, which faults, from one seed
    evidence   the file that sends, cancellations and executions write to; one write a line
    actors     the tasks
    sender     a process that sends them
    stage      the servers, the workers and the faults
    judge      the rows against the evidence
    run        all of it, and the report
    clients    hundreds of API clients at once, a program of its own on the same stage

It knows only what is public: actors and their sends, `workers.tasks.request_cancel`, the two tables, processes,
servers.
"""
