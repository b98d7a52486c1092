"""The bus: a Dramatiq broker on Redis, its client, and its messages.

Must not: know the ledger, settings or actors. What it needs from the ledger it states as a protocol (`broker.Ledger`).
"""
