"""Celery workers: they adapt models to episodes and return sums of meta-gradients.

Workers import ``contracts`` and ``metafleet`` only; they hold no database credentials.
"""
