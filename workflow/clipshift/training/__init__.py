"""Training: a split and a model become weights.

in    a split's table, the shards, a block of the configuration
out   model.pt, record.json, loss.csv; checkpoints, from which a killed training goes on
clip (open_clip's program) and vision (our loop) are the trainers, objectives/ what they train by.
"""
