"""Tensors that are given to a model in place of files: what may be left out, and what is wrong."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from metafleet.episode import ExampleSet, presence_key
from metafleet.errors import ConfigError, DataError, ModelError, NumericsError
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.prediction import Prediction, Value
from metafleet.inference.prediction_file import write_predictions
from metafleet.params import MetaState
from tests.unit.metafleet.inference.models import learned, regressor, support_of

CLASSES = {"cat": 2, "dog": 2, "eel": 2}


def fusing(batch_norm: str) -> Mapping[str, object]:
    encoders = {
        "image": {"name": "conv4", "channels": 4, "n_blocks": 2},
        "audio": {"name": "audio_conv", "channels": 4},
    }
    return {"name": "fusion", "dim": 8, "batch_norm": batch_norm, "encoders": encoders}


@pytest.mark.parametrize("batch_norm", ["transductive", "support"])
@pytest.mark.parametrize("adapting", ["both", "image"])
@pytest.mark.parametrize("asked", ["both", "image"])
def test_a_modality_left_out_is_one_that_no_example_has(
    batch_norm: str, adapting: str, asked: str
) -> None:
    base = learned("image", "audio", model=fusing(batch_norm))
    support = support_of(base)
    queries = {
        "image": torch.rand(4, 3, 8, 8),
        "audio": torch.rand(4, *support.inputs["audio"].shape[1:]),
    }

    def said(inputs: Mapping[str, Tensor], which: str) -> dict[str, Tensor]:
        n = len(inputs["image"])
        present = torch.full((n,), float(which == "both"))
        audio = inputs["audio"] if which == "both" else torch.zeros_like(inputs["audio"])
        return {"image": inputs["image"], "audio": audio, presence_key("audio"): present}

    def brief(inputs: Mapping[str, Tensor], which: str) -> dict[str, Tensor]:
        return {name: inputs[name] for name in inputs if which in ("both", name)}

    def outputs(how: Callable[[Mapping[str, Tensor], str], dict[str, Tensor]]) -> Tensor:
        own = ExampleSet(how(support.inputs, adapting), support.targets)
        model: AdaptedModel = base.adapt_to(own, CLASSES)
        assert model.needs.optional == ("image", "audio")
        return model.logits(how(queries, asked))

    torch.testing.assert_close(outputs(brief), outputs(said))


IMAGE = torch.rand(4, 3, 8, 8)
NOT_A_NUMBER = IMAGE.clone()
NOT_A_NUMBER[2, 1, 0, 5] = float("nan")
WRONG: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "bytes": ({"image": IMAGE.byte()}, r"'image' is uint8 \[4, 3, 8, 8\]; expected float32 \[n, 3"),
    "doubles": ({"image": IMAGE.double()}, "'image' is float64"),
    "a number": ({"image": torch.tensor(1.0)}, r"'image' is float32 \[\]; expected"),
    "an array": ({"image": IMAGE.numpy()}, "'image' is a ndarray; expected a tensor"),
    "nothing": ({"image": IMAGE[:0]}, "inputs have 0 examples; give 1 or more"),
    "no input": ({}, "modality 'image' is missing"),
    "gaps": ({"image": NOT_A_NUMBER}, "'image' holds nan in example 2; expected finite numbers"),
    "lengths": ({"image": IMAGE, "image.present": torch.ones(3)}, "'image' has 4, 'image.present'"),
    "no modality": (
        {"image": IMAGE, "image.present": torch.tensor([1.0, 0.0, 1.0, 1.0])},
        r"example 1 has none of \['image'\]",
    ),
    "wide mask": (
        {"image": IMAGE, "image.present": torch.ones(4, 2)},
        r"'image.present' is float32 \[4, 2\]; expected float32 \[n\]",
    ),
    "half a mask": (
        {"image": IMAGE, "image.present": torch.full((4,), 0.5)},
        "'image.present' holds 0.5 in example 0; expected 0 or 1",
    ),
}


def test_a_mask_of_what_is_not_there_is_refused() -> None:
    base = learned("image", "audio", model=fusing("running"))
    model = base.adapt_to(support_of(base), CLASSES)
    image = torch.rand(4, 3, 8, 8)

    with pytest.raises(DataError, match=r"'audio\.present' says that examples have 'audio', which"):
        model.logits({"image": image, "audio.present": torch.ones(4)})
    masked = model.logits({"image": image, "audio.present": torch.zeros(4)})
    assert torch.equal(masked, model.logits({"image": image}))


@pytest.mark.parametrize("how", WRONG)
def test_inputs_that_are_not_as_in_training_are_refused_in_one_line(how: str) -> None:
    inputs, message = WRONG[how]
    base = learned("image")
    model = base.adapt_to(support_of(base), CLASSES)

    with pytest.raises(DataError, match=message):
        model.logits(inputs)
    with pytest.raises(DataError, match=message):
        model.predict(inputs)


@pytest.mark.parametrize(
    ("targets", "classes", "message"),
    [
        (torch.tensor([0, 0, 1, 1, 2, 7]), CLASSES, "the support set has a class 7; expected 0 to"),
        (torch.tensor([0, 0, 1, 1, 2, -1]), CLASSES, "the support set has a class -1"),
        (torch.tensor([0.0, 0, 1, 1, 2, 2]), CLASSES, "float32 of shape .6,.; expected 3 classes"),
        (torch.tensor([0, 0, 0, 0, 0, 0]), {"cat": 6}, "there are 1 classes; expected 2 or more"),
        (torch.tensor([0, 0, 0, 0, 0, 0]), {}, "there are 0 classes"),
    ],
)
def test_targets_that_are_no_places_of_classes_are_refused(
    targets: Tensor, classes: dict[str, int], message: str
) -> None:
    base = learned("image")

    with pytest.raises(DataError, match=message):
        base.adapt_to(ExampleSet(support_of(base).inputs, targets), classes)


def test_inputs_of_a_support_set_are_held_to_the_same() -> None:
    base = learned("image")

    with pytest.raises(DataError, match="'image' is float64"):
        base.adapt_to(ExampleSet({"image": IMAGE.double()}, torch.tensor([0, 0, 1, 1])), CLASSES)


def test_a_head_of_three_outputs_is_not_adapted_to_two_classes() -> None:
    base = learned("image", learner={"name": "maml", "inner_lr": 0.01})
    support = ExampleSet({"image": IMAGE}, torch.tensor([0, 0, 1, 1]))

    with pytest.raises(ConfigError, match="the support set has 2 classes, but learner 'maml'"):
        base.adapt_to(support, {"cat": 2, "dog": 2})


@pytest.mark.parametrize("targets", [torch.ones(3), torch.ones(3, 1).double(), torch.ones(3, 2)])
def test_values_of_another_shape_or_precision_are_refused(targets: Tensor) -> None:
    with pytest.raises(DataError, match=r"targets are float\d\d \[.*; expected float32 \[3, 1\]"):
        regressor().adapt_to(ExampleSet({"x": torch.rand(3, 1)}, targets), {})


def test_classes_may_be_kept_in_bytes() -> None:
    base = learned("image", learner={"name": "maml", "inner_lr": 0.01})
    support = support_of(base)
    short = ExampleSet(support.inputs, support.targets.byte())

    first, second = (base.adapt_to(s, CLASSES).logits({"image": IMAGE}) for s in (support, short))

    assert torch.equal(first, second)


def test_outputs_that_are_not_finite_are_no_prediction() -> None:
    base = learned("image")
    own = base.learned
    params = {name: torch.full_like(value, 1e30) for name, value in own.state.params.items()}
    broken = LearnedModel.of(own.blueprint, MetaState(params, own.state.buffers), own.origin)
    model = broken.adapt_to(support_of(base), CLASSES)

    with pytest.raises(NumericsError, match=r"outputs of item '0' are .*4 of 4 items not finite"):
        model.predict({"image": IMAGE})


@pytest.mark.parametrize(
    "row", [Value("a:1", (float("nan"),)), Prediction("a:1", "x", 0.5, {"x": float("inf")})]
)
def test_json_lines_hold_no_number_that_json_lacks(row: Value | Prediction, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="item 'a:1' has a number that is not finite"):
        write_predictions([row], tmp_path / "out.jsonl")
