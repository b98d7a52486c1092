"""What is mailed, to whom, and about which record: a domain a file. `notification.py` is the mechanism behind them all.

Imported by actors when a task needs it, for it loads SQLAlchemy and Jinja2.
"""
