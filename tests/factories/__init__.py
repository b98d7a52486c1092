"""Believable rows for tests, a domain a file: functions that store a row and return it, each column open to change.

    permit = ask_for_permit(title="Hot work on the roof", state=PermitState.APPROVED)

What a row refers to is made where the test names none.
"""
