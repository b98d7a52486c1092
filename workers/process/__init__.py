"""Processes: what `callboard up` starts, watches and stops.

Must not: know tasks, or be imported by anything but the CLI.
"""
