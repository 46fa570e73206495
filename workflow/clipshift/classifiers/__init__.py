"""Domain classifiers: which images are natural, which are renditions.

domain_labels -> fit -> score -> thresholds -> decisions -> composition, clean_set
in    labels, embeddings or images
out   log-odds per image, thresholds at a stated precision, decisions, corrected shares
"""
