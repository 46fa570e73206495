"""Captions, and the class labels that are found in them.

fields   what sources say of each image: title, description, tags
join     captions of another table, joined by class and file name
corpora  caption and label of each image, or why it has none (`matcher`: classes that a text names;
         `language`: which texts are English)
template captions of a labelled set from its class names
"""
