# Two commands do everything on a machine with Python >= 3.11, make and git: `make run` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST_FLAGS ?=

.PHONY: install run test check bench soak lock audit fix clean

install: $(STAMP)  ## make .venv from the hashed lock file

run: $(STAMP)  ## bring the whole system up, until Ctrl-C
	@exec $(BIN)/callboard up

test: $(STAMP)  ## run the tests; they start the servers that they need
	$(BIN)/pytest $(PYTEST_FLAGS)

check: $(STAMP)  ## the gate: ruff, format, types, import contract, callboard check, tests
	@# In a fresh checkout each process of pytest would compile all tests for itself; one does it while mypy works.
	@$(BIN)/pytest -n 0 --collect-only -qq > /dev/null 2>&1 &
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/callboard check .
	$(MAKE) test

bench: $(STAMP)  ## bus and ledger beside Dramatiq's own Redis broker and a naive status table; the scheduler by itself
	$(BIN)/python -m tests.benchmarks.bus
	$(BIN)/python -m tests.benchmarks.ledger
	$(BIN)/python -m tests.benchmarks.schedules --database both
	$(BIN)/python -m tests.benchmarks.bulk

soak: $(STAMP)  ## bus, ledger and faults with their full numbers, everything at once on both databases, then 500 clients
	CALLBOARD_TEST_FULL=1 $(BIN)/pytest tests/workers/broker tests/models/test_task_moves_machine.py tests/models/test_direct.py \
		tests/models/test_triggers_oracle.py \
		tests/workers/ledger tests/workers/actors tests/faults tests/workers/web/test_conformity.py -n 1 -o timeout=1800 \
		--deselect tests/faults/test_soak.py::test_everything_at_once_loses_nothing
	$(BIN)/python -m tests.soak --database both
	$(BIN)/python -m tests.soak.clients

audit: $(STAMP)  ## known holes in the locked versions; where the registry does not tell of them it fails and says so
	$(BIN)/uv tool run pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict

fix: $(STAMP)  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP)  ## write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" --quiet --output-file requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Callboard needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …")'
	@echo "setting up .venv (the first time takes a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:  ## remove .venv and caches; var/ (your data) stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
