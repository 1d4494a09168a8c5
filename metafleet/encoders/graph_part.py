"""An encoder as a part of a graph in ONNX that takes decoded items instead of features."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy.typing as npt
from torch import Tensor, nn

Array = npt.NDArray[Any]
ModuleT = TypeVar("ModuleT", bound=nn.Module)
ANY: Final = 0
"""Length of an axis, in the shape of an input, that differs from call to call."""


@dataclass(frozen=True, slots=True)
class PartInput:
    """One input of an encoder's part of a graph.

    Attributes:
        suffix: what follows the modality's name in the name of the input, such as ".input_ids".
        shape: shape of one example; ``ANY`` for an axis of any length.
        takes: description of the input's values, as JSON values: their meaning, and their range,
            sample rate or tokenizer.
    """

    suffix: str
    shape: tuple[int, ...]
    takes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GraphPart:
    """What an encoder adds to a graph.

    Attributes:
        inputs: the inputs, in the order of the module's arguments.
        module: maps the inputs [n, ...] to features [n, features], on the CPU, in eval mode.
        prepare: a function from decoded items [n, *shape] to the inputs. The function is not part
            of the graph: a user of the graph must implement it in the user's own program. Metafleet
            calls the function only to check the graph.
        before: a finished graph that runs between the inputs and the module; None if there is none.
    """

    inputs: tuple[PartInput, ...]
    module: nn.Module
    prepare: Callable[[Array], tuple[Tensor, ...]]
    before: "FixedGraph | None" = None


@dataclass(frozen=True, slots=True)
class FixedGraph:
    """A finished graph in ONNX. One of its inputs and one of its outputs are used.

    Attributes:
        path: path of the graph's file.
        input, output: names of the input and of the output. The output goes to the module.
        run: maps the input to the output.
    """

    path: Path
    input: str
    output: str
    run: Callable[[Array], Array]


class Calling(nn.Module):
    """A module that runs a function. It has the parameters of the model that the function calls.

    Args:
        model: the model.
        function: maps tensors to features.
    """

    def __init__(self, model: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self._function = model, function
        self.eval()

    def forward(self, *values: Tensor) -> Tensor:
        """Call the function."""
        return self._function(*values)


class Pooling(nn.Module):
    """Pools the rows of a finished graph, as ``pool_rows`` does.

    Args:
        pooling: "class_token", "mean", "max" or "flat"; not used for outputs [n, features].
    """

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self._pooling = pooling
        self.eval()

    def forward(self, rows: Tensor) -> Tensor:
        """Map [n, rows, features], [n, features, height, width] or [n, features] to features."""
        if rows.ndim == 4:
            rows = rows.flatten(2).transpose(1, 2)
        if rows.ndim == 2:
            return rows
        if self._pooling == "flat":
            return rows.flatten(1)
        if self._pooling == "class_token":
            return rows[:, 0]
        return rows.amax(dim=1) if self._pooling == "max" else rows.mean(dim=1)


def token_input(suffix: str, n_tokens: int, encoder: str) -> PartInput:
    """Return an input of tokens, int64.

    Args:
        suffix: what follows the modality's name.
        n_tokens: number of tokens, or ``ANY``.
        encoder: name of the encoder whose tokenizer gives the values.
    """
    takes = {
        "values": f"{suffix.removeprefix('.')} of the tokenizer of {encoder}",
        "shape": ["n", n_tokens or "tokens"],
        "dtype": "int64",
    }
    return PartInput(suffix, (n_tokens,), takes)


def on_cpu(model: ModuleT) -> ModuleT:
    """Return a copy of a model on the CPU."""
    return copy.deepcopy(model).cpu()
