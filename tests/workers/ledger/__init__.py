"""Tests of workers.ledger."""
