"""Celery workers, which adapt models to episodes and return sums of meta-gradients.

This package imports only ``metafleet.contracts`` and the learning core. Workers have no database
credentials.
"""
