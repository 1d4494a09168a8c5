"""Checks that a learner's state fits into memory before it is allocated."""

import math
import os

from metafleet.errors import ConfigError, ModelError
from metafleet.inference.state_layout import expected_layout
from metafleet.learners.base import Learner


def require_room(learner: Learner) -> None:
    """Check that the learner's state fits into the memory of this machine.

    Raises:
        ConfigError: the state does not fit; the message gives its size.
    """
    try:
        layout = expected_layout(learner).values()
    except ModelError as error:
        if "overflow" in str(error):
            raise ConfigError(
                "the model has more numbers than can be counted; lower its options"
            ) from error
        return  # a user's learner that cannot run with fake tensors
    except Exception:  # likewise
        return
    n_numbers = sum(math.prod(shape) for shape, _ in layout)
    n_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in layout)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if n_bytes > there:
        raise ConfigError(
            f"the model has {n_numbers:.3g} parameters of {n_bytes / 1e9:.3g} GB; this machine has "
            f"{there / 1e9:.3g} GB of memory; lower the model's options"
        )
