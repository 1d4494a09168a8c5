"""Sampling of episodes from classes and mixtures.

``metafleet.episodes.classes`` draws ordinary episodes. For class names, uneven shots, missing
modalities and cross-modal episodes, it calls ``metafleet.episodes.special``.
"""
