"""`clipshift inspect`: what a path holds, in seconds, and what would read it.

In: a path in any format of `clipshift.datasets.formats`. Out: text for a terminal, or a page.
"""
