"""A module that has adapted to a support set."""

from typing import Any

from torch import Tensor

from metafleet.learners.base import Adaptation
from metafleet.models.module_model import PREFIX
from metafleet.purity.hidden_state import HiddenState, Snapshot
from metafleet.script.module_factory import ModuleFactory
from metafleet.script.plain_episode import Inputs, as_inputs
from metafleet.script.runtime import running


class Adapted:
    """A module that has adapted to a support set. Call the object with inputs.

    Later outer steps do not change the adapted module.

    Args:
        adaptation: the result of the learner's ``adapt``.
        factory: factory of the model. Its module runs with all submodules in evaluation mode.
        hidden: hidden state of the module, such as its buffers and random generators.
        left: hidden state after the adaptation. Every prediction starts from this state.
        like: tensor that gives the device and precision to which inputs are converted.

    Attributes:
        params: the adapted parameters by their names in the module, and any other tensors that the
            learner adapts. Empty for learners without inner steps.
    """

    def __init__(
        self,
        adaptation: Adaptation,
        factory: ModuleFactory,
        hidden: HiddenState,
        left: Snapshot,
        *,
        like: Tensor,
    ) -> None:
        self.params = {name.removeprefix(PREFIX): v for name, v in adaptation.fast.items()}
        self._predict = adaptation.predict
        self._factory = factory
        self._hidden, self._left = hidden, left
        self._like = like

    def __call__(self, inputs: Inputs) -> Any:
        """Return logits [n, n_way], or the module's outputs, for inputs [n, ...].

        Raises:
            ConfigError, DataError: the inputs are not tensors, or the module does not accept them.
        """
        given = as_inputs(inputs, self._like)
        module = self._factory.function.module
        with running(module, is_training=False), self._hidden.starting_from(self._left):
            self._factory.check(given)
            with self._factory.explaining([given]):
                return self._factory.function.unpacked(self._predict(given))
