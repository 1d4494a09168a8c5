"""Pretrained encoders: frozen networks that turn one item into one row of features."""
