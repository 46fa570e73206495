"""What every room stands on: files that are whole or absent, counts, errors, steps, the database.

in    nothing of the project
out   functions that all other rooms may import; this room imports none of them
"""
