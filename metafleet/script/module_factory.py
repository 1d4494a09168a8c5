"""Factory of models that wrap a user's module."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from metafleet.errors import ConfigError, DataError, MetafleetError
from metafleet.models.base import Model
from metafleet.models.module_function import Call, ModuleFunction
from metafleet.models.module_model import ModuleModel, arguments, check_inputs, default_batch_norm
from metafleet.models.module_survey import UNSEEN, run_once, survey
from metafleet.script.runtime import running


class ModuleFactory:
    """A ``ModelFactory`` that builds ``ModuleModel``s.

    Args:
        function: the module.
        inputs: example inputs of the module, name -> [n, ...]. Empty if the caller's loop passes
            losses instead of episodes, because no inputs are then known.
        batch_norm: the batch norm mode; None for the module's own behaviour.
        is_regression: whether targets are values, so that outputs may have any shape.

    Attributes:
        n_outputs: number of outputs of the head that was built last; None if no head was built.
    """

    def __init__(
        self,
        function: ModuleFunction,
        inputs: Mapping[str, Tensor],
        *,
        batch_norm: str | None,
        is_regression: bool,
    ) -> None:
        self.function = function
        self.inputs = inputs
        self._batch_norm = batch_norm or default_batch_norm(function)
        self._is_regression = is_regression
        self._extra: Mapping[str, tuple[int, ...]] = {}
        self.n_outputs: int | None = None

    def __call__(
        self,
        n_outputs: int | None,
        /,
        *,
        extra_inputs: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Model:
        """Build a model from the module and its example inputs; see ``ModelFactory``."""
        self._extra = extra_inputs or {}
        check_inputs(self.function, self._extra)
        modalities = tuple(self.inputs)
        found = survey(self.function, self._call(self.inputs)) if self.inputs else UNSEEN
        if n_outputs is None and self.function.layout is not None:
            raise ConfigError(
                "the module returns a dict or tuple and this learner embeds; expected a tensor "
                "[n, ...]: name the submodule that it goes into as head"
            )
        if n_outputs is not None and not self._is_regression:
            self.n_outputs = _width(found.output_shape, n_outputs)
        return ModuleModel(
            self.function,
            found,
            modalities=modalities,
            batch_norm=self._batch_norm,
            has_head=n_outputs is not None,
        )

    def check(self, inputs: Mapping[str, Tensor]) -> None:
        """Check that inputs have the names that the factory was built with.

        Raises:
            DataError: the inputs have other names.
        """
        known, given = sorted(self.inputs), sorted(inputs)
        if given != known:
            raise DataError(f"inputs are {given} but the first episode had {known}")

    @contextmanager
    def explaining(self, under_way: Iterable[Mapping[str, Tensor]]) -> Iterator[None]:
        """Raise a one-line error if a computation fails because the module rejects its inputs.

        After a failure, the module runs on the inputs again, to find the cause. Running the module
        on all inputs beforehand would cost a forward pass for every new sequence length or number
        of nodes.

        Args:
            under_way: inputs of the current computation, one of which may be the cause of a
                failure. The inputs are read only after a failure.

        Raises:
            ConfigError: the module cannot be run on one of these inputs.
        """
        try:
            yield
        except MetafleetError:
            raise
        except Exception:
            for inputs in under_way:
                with torch.no_grad(), running(self.function.module, is_training=False):
                    run_once(self.function, self._call(inputs))
            raise  # the inputs are not the cause

    def _call(self, inputs: Mapping[str, Tensor]) -> Call:
        """Return the module's arguments, with zeros for the inputs that the learner adds."""
        first = next(iter(inputs.values()))
        extra = {
            name: torch.zeros(len(first), *shape, device=first.device)
            for name, shape in self._extra.items()
        }
        return arguments({**inputs, **extra}, tuple(self.inputs))


def returns_structure(function: ModuleFunction, inputs: Mapping[str, Tensor]) -> bool:
    """Return whether the module's outputs are a dict or tuple, by running it once."""
    with torch.no_grad():
        run_once(function, arguments(inputs, tuple(inputs)))
    return function.layout is not None


def _width(output_shape: tuple[int, ...], n_outputs: int) -> int:
    if len(output_shape) != 1:
        raise ConfigError(
            f"the module's outputs have shape {output_shape} for one example but targets are "
            "classes; expected logits (n_way,)"
        )
    if output_shape[0] < n_outputs:
        raise ConfigError(
            f"the module has {output_shape[0]} outputs but the episode {n_outputs} classes; "
            "expected an output for each class, numbered from 0"
        )
    return output_shape[0]
