"""Celery workers, which adapt models to episodes and return sums of meta-gradients.

They import only ``metafleet.contracts`` and the learning core, and hold no database credentials.
"""
