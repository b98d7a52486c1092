"""What surrounds a running function: the task that it can ask about itself.

Must not: decide outcomes; those belong to the ledger.
"""
