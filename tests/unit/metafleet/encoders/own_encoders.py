"""Encoders of a user's own, right and wrong. A test writes this file into a package of its own."""

import numpy as np

from metafleet.encoders.base import PretrainedEncoder


class Colours(PretrainedEncoder):
    """The mean of each colour."""

    name, kinds, batch_items = "colours", frozenset(("image",)), 4

    def __init__(self, pooling="mean"):
        self.pooling = pooling

    def reading(self, kind):
        return {"side": 8, "channels": 3, "fit": "stretch"}

    def identity(self):
        return {"version": 1}

    def n_features(self, shape):
        return 3

    def encode(self, items):
        found = items / np.float32(255)
        found = found.max((2, 3)) if self.pooling == "max" else found.mean((2, 3))
        return found.astype(np.float32)


class Narrow(Colours):
    def encode(self, items):
        return np.zeros((len(items), 2), np.float32)


class Raising(Colours):
    def encode(self, items):
        raise ZeroDivisionError("division by zero")


class Listing(Colours):
    def encode(self, items):
        return [0.0]


class Countless(Colours):
    def n_features(self, shape):
        return 0


class Unbatched(Colours):
    batch_items = 0


class Kindless(Colours):
    kinds = ()


class Unclear(Colours):
    def identity(self):
        return {"version": object()}


class Demanding(Colours):
    def reading(self, kind):
        return {"size": 8}


class NotFinite(Colours):
    def encode(self, items):
        return np.full((len(items), 3), np.nan, np.float32)


class Scaled(Colours):
    logit_scale = -1.0


class Plain:
    pass
