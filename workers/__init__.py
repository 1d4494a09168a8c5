"""Celery workers: they adapt models to episodes and return sums of meta-gradients.

They import ``metafleet.contracts`` and the learning core alone, and hold no database credentials.
"""
