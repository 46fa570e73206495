"""Controlled trainings: captions, labels found in them, and models that differ in one property.

fields   what sources say of each picture: title, description, tags
matcher  classes that a text names;  language  which texts are English
corpora  caption and label of each picture, or why it has none
choose   the pictures of a split that a corpus can use: what a training reads
clip, learn   trainings: open_clip's; cross-entropy and SimCLR with the same vision tower
evaluate, heads   accuracies by zero-shot prompts, a classifier's own layer, a linear probe
tables   one row a run; label-in-caption statistics
join     ImageNet-Captions: captions by file name and WordNet id for a folder of ImageNet
"""
