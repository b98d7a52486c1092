"""Tests of workers.middleware."""
