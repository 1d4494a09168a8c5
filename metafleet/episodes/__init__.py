"""Sampling of episodes from the items of classes, and from mixtures of data sets.

``metafleet.episodes.classes`` draws ordinary episodes. It calls ``metafleet.episodes.special`` to
draw episodes with class names, uneven shots or missing modalities, and cross-modal episodes.
"""
