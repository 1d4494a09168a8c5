"""Sampling of episodes from classes and mixtures.

``metafleet.episodes.classes`` draws ordinary episodes. For uneven shots, missing modalities,
episodes across modalities and class names it calls ``metafleet.episodes.special``.
"""
