"""`clipshift label` and `clipshift released`: where the labels natural, rendition and ambiguous
come from.

`options` reads the command line, `catalogue` finds a pool's images, `scores` orders them, `store`
keeps every label in a journal and writes the table, `table` is that table and the consensus over
it, `agreement` says how far annotators agree, `views` is what the page shows, `server` serves it,
`run` does these in order. `released` reads the labels that the paper's authors published.
"""
