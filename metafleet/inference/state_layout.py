"""Names, shapes and dtypes of a learner's state, without allocating it; it may be huge."""

from collections.abc import Mapping

from metafleet.errors import ModelError
from metafleet.inference.model_folder import TensorLayout
from metafleet.learners.base import Learner
from metafleet.params import MetaState, flatten_state


def layout_of(state: MetaState) -> Mapping[str, TensorLayout]:
    """Return name -> shape and dtype."""
    flat = flatten_state(state)
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in flat.items()}


def expected_layout(learner: Learner) -> Mapping[str, TensorLayout]:
    """Return the layout of a learner's state.

    Raises:
        ModelError: the size of the state overflows.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC0415 - a second to import

    try:
        with FakeTensorMode(allow_non_fake_inputs=True):  # a user's module has real tensors
            return layout_of(learner.init_state(0))
    except (RuntimeError, OverflowError, TypeError) as error:  # TypeError: a size of 2**63
        first = next(iter(str(error).splitlines()), "")
        raise ModelError(
            f"its description describes a network that cannot be ({first:.100})"
        ) from error
