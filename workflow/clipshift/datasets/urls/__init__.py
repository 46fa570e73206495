"""Pools from lists of URLs: list -> img2dataset -> what became of each URL -> shards.

`listing` reads the list, `fetch` starts img2dataset in its own environment (`fetcher`, with the
rules of `addresses` and `web`), `reasons` names what failed, `placeholders` finds repeated
images, and `shard` writes a pool's shard.
"""
