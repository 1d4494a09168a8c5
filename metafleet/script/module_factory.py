"""Models made of a user's module."""

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
    """Builds ``ModuleModel``s: a ``ModelFactory``.

    Args:
        function: the module.
        inputs: examples of what it is called with, name -> [n, ...]; none where its losses alone
            are known.
        batch_norm: mode; None for what the module does by itself.
        is_regression: whether outputs may have any shape.

    Attributes:
        n_outputs: how wide the head is that was built last; None for none.
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
        """Look at the module with these inputs; see ``ModelFactory``."""
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
        """Refuse inputs of other names than those it was built for.

        Raises:
            DataError: they have other names.
        """
        known, given = sorted(self.inputs), sorted(inputs)
        if given != known:
            raise DataError(f"inputs are {given} but the first episode had {known}")

    @contextmanager
    def explaining(self, under_way: Iterable[Mapping[str, Tensor]]) -> Iterator[None]:
        """Say so in one line where a computation fails because the module does not take its inputs.

        The module runs on them once more, and only then: trying them first would cost a forward
        pass for every new length of a sequence or number of nodes.

        Args:
            under_way: inputs that may be the cause, looked at when it has failed.

        Raises:
            ConfigError: the module cannot be run on them.
        """
        try:
            yield
        except MetafleetError:
            raise
        except Exception:
            for inputs in under_way:
                with torch.no_grad(), running(self.function.module, is_training=False):
                    run_once(self.function, self._call(inputs))
            raise  # they are not the cause

    def _call(self, inputs: Mapping[str, Tensor]) -> Call:
        """Return what the module is called with, zeros for what the learner adds."""
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
