"""The tests mirror the three packages; acceptance/ tries the whole as a new user would.

Real: worker, middleware chain, Redis-protocol server, SQLite and PostgreSQL, SMTP server. Faked: only the clock, where
time is an argument.
"""
