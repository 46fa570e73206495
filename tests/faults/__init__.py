"""Faults put into running commands and steps; `python -m tests.faults`."""
