"""Mutation fuzzing of everything that reads a user's bytes; `python -m tests.fuzz`."""
