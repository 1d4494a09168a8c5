"""Targets and outputs that are dicts and tuples, with a loss of the user's that takes them."""

import copy
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metafleet import MetaLearner
from metafleet.errors import ConfigError, DataError, MetafleetError
from tests.unit.metafleet.script.by_hand import sgd, values_of
from tests.unit.metafleet.script.modules import dense_net, vector_episode


class Found(NamedTuple):
    label: Tensor
    place: Tensor


class TwoHeads(nn.Module):
    """Classifies and regresses: a dict, a named tuple, or the two side by side."""

    def __init__(self, kind: str, *, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.kind = kind
        self.body = nn.Linear(5, 6).double()
        self.label, self.place = nn.Linear(6, 3).double(), nn.Linear(6, 4).double()

    def forward(self, x: Tensor) -> Any:
        h = torch.tanh(self.body(x))
        label, place = self.label(h), self.place(h).reshape(-1, 2, 2)
        if self.kind == "dict":
            return {"place": place, "label": label, "penalty": h.square().mean(), "none": None}
        if self.kind == "tuple":
            return Found(label, place)
        return torch.cat([label, place.flatten(1)], dim=1)


def loss_of(outputs: Any, targets: Any) -> Tensor:
    penalty = 0.0
    if isinstance(outputs, dict):
        assert outputs["none"] is None
        penalty = 0.1 * outputs["penalty"]
    if isinstance(outputs, Tensor):
        outputs = Found(outputs[:, :3], outputs[:, 3:].reshape(-1, 2, 2))
    label, place = (
        (outputs["label"], outputs["place"]) if isinstance(outputs, dict) else tuple(outputs)
    )
    wanted = targets if isinstance(targets, dict) else {"label": targets[0], "place": targets[1]}
    assert wanted["label"].dtype == torch.int64
    assert wanted["place"].shape == place.shape
    return F.cross_entropy(label, wanted["label"]) + F.mse_loss(place, wanted["place"]) + penalty


def episode(seed: int, kind: str) -> Any:
    x, y, query_x, query_y = vector_episode(seed)
    generator = torch.Generator().manual_seed(seed)

    def targets(label: Tensor) -> Any:
        place = torch.randn(len(label), 2, 2, generator=generator).double()
        return {"label": label, "place": place} if kind == "dict" else (label, place)

    return x.double(), targets(y), query_x.double(), targets(query_y)


def by_hand(module: nn.Module, given: Any) -> dict[str, Tensor]:
    """Differentiate two steps of MAML by torch.func."""
    x, y, query_x, query_y = given

    def adapted(params):
        for _ in range(2):
            slope = torch.func.grad(
                lambda p: loss_of(torch.func.functional_call(module, p, (x,)), y)
            )(params)
            params = {n: p - 0.1 * slope[n] for n, p in params.items()}
        return loss_of(torch.func.functional_call(module, params, (query_x,)), query_y)

    return torch.func.grad(adapted)(values_of(module))


@pytest.mark.parametrize("execution", ["autograd", "vmap", "constant_memory"])
@pytest.mark.parametrize("outputs", ["dict", "tuple", "tensor"])
@pytest.mark.parametrize("targets", ["dict", "tuple"])
def test_a_step_is_the_gradient_of_the_loss_of_structures(
    outputs: str, targets: str, execution: str
) -> None:
    module = TwoHeads(outputs)
    before = values_of(module)
    episodes = [episode(seed, targets) for seed in range(2)]
    each = [by_hand(module, one) for one in episodes]

    meta = MetaLearner(
        module, loss=loss_of, optimiser=sgd, execution=execution, inner_lr=0.1, inner_steps=2
    )
    report = meta.optimize(episodes)

    for name, value in module.named_parameters():
        expected = (each[0][name] + each[1][name]) / 2
        torch.testing.assert_close(before[name] - value, expected, rtol=1e-9, atol=1e-11)
    assert report.accuracy is None


def test_predictions_have_the_structure_of_the_outputs() -> None:
    x, y, query_x, query_y = given = episode(0, "dict")
    meta = MetaLearner(TwoHeads("dict"), loss=loss_of, inner_lr=0.1)

    found = meta.adapt((x, y))(query_x)

    assert found.keys() == {"place", "label", "penalty", "none"}
    assert found["place"].shape == (9, 2, 2)
    judged = meta.evaluate([given])
    assert judged.accuracy is None
    assert judged.loss == pytest.approx(float(loss_of(found, query_y)))
    twin = copy.deepcopy(meta)
    assert twin.optimize([given]) == meta.optimize([given])


def test_classes_with_outputs_of_a_dict_are_for_the_loss_alone() -> None:
    def labels_alone(outputs: Any, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs["label"], targets)

    meta = MetaLearner(TwoHeads("dict"), loss=labels_alone)
    reports = [meta.optimize([vector_episode(seed)]) for seed in range(2)]
    assert [r.accuracy for r in reports] == [None, None]
    assert meta.evaluate([vector_episode(3)]).accuracy is None


def test_reptile_takes_its_batches_of_structures() -> None:
    meta = MetaLearner(TwoHeads("tuple"), "reptile", loss=loss_of, inner_batch=2)
    assert meta.optimize([episode(0, "tuple")]).step == 1


def test_labels_keep_their_values_in_a_module_of_half_precision() -> None:
    seen = []

    def looking(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        seen.append(targets["label"])
        return outputs.square().mean()

    label = torch.arange(6) + 2**40
    module = dense_net().to(torch.bfloat16)
    x, *_ = vector_episode()
    MetaLearner(module, loss=looking, inner_steps=1).optimize([(x, {"label": label}) * 2])
    assert all(torch.equal(one, label) for one in seen)


NUMBERS = {
    torch.int64: [2**24 + 1, -(2**62) - 1],
    torch.int32: [2**30 + 1, -3],
    torch.int16: [257, -257],
    torch.int8: [-128, 127],
    torch.uint8: [0, 255],
    torch.bool: [True, False],
}


class WithNumbers(nn.Module):
    """Returns logits and whole numbers of every type: [n, 2], and a scalar."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = dense_net().to(dtype)

    def forward(self, x: Tensor) -> Any:
        rows = {str(d): torch.tensor(v, dtype=d).expand(len(x), 2) for d, v in NUMBERS.items()}
        return {"logits": self.net(x), "n": torch.tensor(2**53 + 1)} | rows


@pytest.mark.parametrize("execution", ["autograd", "vmap", "constant_memory"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_whole_numbers_among_outputs_keep_their_values(dtype: torch.dtype, execution: str) -> None:
    wrong = []

    def loss_of_logits(outputs: Any, targets: Tensor) -> Tensor:
        same = [outputs["n"] == 2**53 + 1]
        same += [(outputs[str(d)] == torch.tensor(v)).all() for d, v in NUMBERS.items()]
        wrong.extend(str(d) for d in NUMBERS if outputs[str(d)].dtype != d)
        return F.cross_entropy(outputs["logits"].float(), targets) / torch.stack(same).all()

    x, y, query_x, query_y = vector_episode()
    module = WithNumbers(dtype)
    meta = MetaLearner(
        module, loss=loss_of_logits, optimiser=sgd, execution=execution, inner_steps=1
    )

    assert meta.optimize([(x, y, query_x, query_y)] * 2).loss > 0.0  # a wrong one makes it infinite

    found = meta.adapt((x, y))(query_x)
    assert not wrong
    for kind, values in NUMBERS.items():
        assert found[str(kind)].tolist() == [values] * len(query_x)
    assert int(found["n"]) == 2**53 + 1


X, Y, QX, QY = episode(0, "dict")


@pytest.mark.parametrize(
    ("make", "given", "error", "message"),
    [
        (lambda: MetaLearner(dense_net()), (X, Y, QX, QY), DataError, "a loss of yours for them"),
        (
            lambda: MetaLearner(TwoHeads("dict")),
            vector_episode(),
            ConfigError,
            "the module returns a dict; expected a tensor .*or a loss of yours that takes it",
        ),
        (
            lambda: MetaLearner(dense_net(), loss=loss_of),
            (X, {**Y, "label": Y["label"][:2]}, QX, QY),
            DataError,
            r"targets have a tensor of shape \(2,\) for 6 examples",
        ),
        (
            lambda: MetaLearner(dense_net(), loss=loss_of),
            (X, Y, QX, {"label": QY["label"]}),
            DataError,
            "but the first episode's were",
        ),
        (
            lambda: MetaLearner(dense_net(), loss=loss_of),
            (X, {"label": Y["label"] + 2**60}, QX, QY),
            DataError,
            r"beyond 2\*\*53",
        ),
        (
            lambda: MetaLearner(dense_net(), loss=loss_of),
            (X, {"label": "some"}, QX, QY),
            DataError,
            "a str is no tensor",
        ),
        (
            lambda: MetaLearner(TwoHeads("tuple"), "protonet", loss=loss_of),
            vector_episode(),
            MetafleetError,
            "learner 'protonet' classifies|this learner embeds",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(make: Any, given: Any, error: type, message: str) -> None:
    meta = make()
    before = values_of(meta.module)
    with pytest.raises(error, match=message) as caught:
        meta.optimize([given])
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[n], v) for n, v in meta.module.named_parameters())
