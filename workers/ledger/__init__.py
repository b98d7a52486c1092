"""What keeps a task's row true while its message travels: accept, claim, outcome, presence.

Must not: know actors, the web or schedules.
"""
