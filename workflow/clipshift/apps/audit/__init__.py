"""`clipshift audit`: how much of a test set has a near copy in a training set.

`options` reads the command line, `embed` embeds them,
`sides` opens embedding folders, `sweep` reduces the similarity matrix, `tables` and `accuracy` turn
that into what is written, `page` shows it, `run` does these in order and continues after a kill.
"""
