"""Episodes that are not ordinary: uneven shots, missing modalities, across modalities, with names.

``metafleet.episodes.classes`` has the ordinary ones, and calls for these.
"""
