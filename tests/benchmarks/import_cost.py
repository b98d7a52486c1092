"""How much `import workers` adds to importing the packages that any such project imports anyway.

    .venv/bin/python -m tests.benchmarks.import_cost [ROUNDS]

Both imports run in fresh interpreters, by turns, so that a busy machine slows both alike.
"""

import statistics
import subprocess
import sys

PACKAGES = "import dramatiq, dramatiq.brokers.redis, redis, periodiq, sqlmodel, pydantic_settings"
ALL = f"{PACKAGES}; import workers"
TIMED = "import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"


def seconds(statement: str) -> float:
    """The time that a fresh interpreter takes for the statement."""
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(rounds: int = 15) -> None:
    """Print the medians and their difference."""
    seconds(ALL)  # why: the first one compiles and fills the disk's cache.
    packages_s, all_s = [], []
    for _ in range(rounds):
        packages_s.append(seconds(PACKAGES))
        all_s.append(seconds(ALL))
    added_s = [both - alone for alone, both in zip(packages_s, all_s, strict=True)]
    print(f"packages {statistics.median(packages_s):.3f} s, with workers {statistics.median(all_s):.3f} s")
    print(f"added: median {statistics.median(added_s):.3f} s, least {min(added_s):.3f} s, most {max(added_s):.3f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
