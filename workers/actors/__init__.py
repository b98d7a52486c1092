"""The domains, one file each: what it is for and its idempotency key, the work as plain functions, then the actors."""
