"""Dramatiq middleware, one class a file, and the order in which they stand.

`before_*` hooks run from first to last, `after_*` hooks from last to first (spec/traps.md 1). So:
  Registry      first: an actor must be known before anything looks at its options
  StartChecks   before whatever needs the database or Redis
  Watch         wherever; it acts only when a worker boots and stops
  Surround      takes the place of each actor's function (workers.runner)
  Status        before Retries: its after-hook sees what Retries decided
  Retries       decides whether a failed attempt is tried again
  …             pipelines, callbacks, groups, results, shutdown notices: Dramatiq's own
  TimeLimit     last: it needs the current task. It only says the limit; the window around the function enforces it, so
                that no hook is ever interrupted
"""
