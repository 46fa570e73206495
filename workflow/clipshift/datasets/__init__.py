"""Data sets: pools and labelled sets, drawn, downloaded or brought by the user.

in    packages of drawings and photographs, lists of URLs, folders of the user's
out   webdataset shards, a table with a row a sample, counts of what was rejected and why
"""
