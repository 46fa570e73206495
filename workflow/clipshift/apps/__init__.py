"""Programs for people: the command line, the audit, labelling by hand, margins, robustness.

in    files of the user's, without a study
out   pages, tables, and messages that say what to do next
"""
