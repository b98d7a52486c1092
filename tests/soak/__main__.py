"""`python -m tests.soak`: the soak by hand; exit status 1 if it finds anything. Without --seed a new one is drawn."""

from __future__ import annotations

import argparse
import random
import sys

from tests.soak.plan import Plan
from tests.soak.run import run


def main() -> None:
    """Run it on one database or on both."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=150, help="sends are spread over this time; default 150")
    parser.add_argument("--kill-every-s", type=float, default=2.0, help="0: never")
    parser.add_argument("--deploy-every-s", type=float, default=0.0, help="0: never")
    parser.add_argument("--redis-restarts", type=int, default=5)
    parser.add_argument("--database-outage-s", type=float, default=30.0, help="0: never")
    parser.add_argument("--flush", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--settle-s", type=float, default=180.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = vars(parser.parse_args())
    databases = ["sqlite", "postgresql"] if given["database"] == "both" else [given["database"]]
    passed = True
    for database in databases:
        print(f"soak on {database}, seed {given['seed']}", flush=True)
        report = run(Plan(**{**given, "database": database}))
        print(report, flush=True)
        passed = passed and not report.findings
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
