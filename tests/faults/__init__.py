"""Whatever dies: worker, Redis, database. The ledger is compared with the evidence that each task writes itself."""
