"""What is no episode, or none that the module takes, is refused in one line and changes nothing."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metafleet import Episode, ExampleSet, MetaLearner
from metafleet.errors import ConfigError, DataError, MetafleetError, NumericsError
from tests.unit.metafleet.script.modules import dense_net, value_episode, vector_episode

X, Y, QX, QY = vector_episode()
NAN = float("nan")


def whole(support_y: Any = Y, query_y: Any = QY, n_way: Any = 3) -> Episode:
    return Episode(ExampleSet({"x": X}, support_y), ExampleSet({"x": QX}, query_y), n_way)


def refused(meta: MetaLearner, act: Any, error: type[MetafleetError], message: str) -> None:
    before = copy.deepcopy(meta.module.state_dict())
    with pytest.raises(error, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)
    assert meta.step == 0
    assert all(torch.equal(v, before[n]) for n, v in meta.module.state_dict().items())


@pytest.mark.parametrize("is_bound", [False, True])
@pytest.mark.parametrize(
    ("episode", "error", "message"),
    [
        ((X, Y, QX), DataError, "an episode is a tuple of 3"),
        ({"support": (X, Y)}, DataError, "an episode is a dict; expected"),
        ((X, Y, QX, "x"), DataError, "targets: a str is no tensor"),
        ((X, Y, QX, None), DataError, "targets: a NoneType is no tensor"),
        (([[1, 2], [3]], Y, QX, QY), DataError, "input 'x': a list of 2 is no tensor"),
        ((X, Y, QX, torch.tensor(1)), DataError, "targets: a single number"),
        ((X + 0j, Y, QX, QY), DataError, "input 'x': a tensor of complex numbers"),
        ((X.to("meta"), Y, QX, QY), DataError, "input 'x': a tensor without data"),
        (({}, Y, {}, QY), DataError, r"inputs are named \[\]; expected one name or more"),
        (({1: X}, Y, {1: QX}, QY), DataError, r"inputs are named \[1\]; expected"),
        (({"x": X}, Y, {"z": QX}, QY), DataError, r"inputs are \['z'\] but the first episode had"),
        ((X[:-1], Y, QX, QY), DataError, "'x' has 5 examples but there are 6 targets"),
        ((X, Y, QX[:-1], QY), DataError, "'x' has 8 examples but there are 9 targets"),
        ((X[:0], Y[:0], QX, QY), DataError, "has 0 examples; expected 1 or more"),
        ((X, Y, QX[:0], QY[:0]), DataError, "has 0 examples; expected 1 or more"),
        ((X, Y - 1, QX, QY), DataError, "the support set has a class -1; classes are 0, 1"),
        ((X, Y + 2**40, QX, QY), DataError, "the support set has a class 1099511627778"),
        ((X, Y, QX, QY + 5), DataError, "the query set has a class 7; expected 0 to 2"),
        ((X, Y, QX, QY - 1), DataError, "the query set has a class -1; expected 0 to 2"),
        ((X, Y, QX, QY.double()), DataError, r"targets of the query set are float64 of shape \(9,"),
        (whole(Y + 1), DataError, "the support set has a class 3; expected 0 to 2"),
        (whole(query_y=QY + 1), DataError, "the query set has a class 3; expected 0 to 2"),
        (whole(Y.double()), DataError, "targets of the support set are float64"),
        (whole(n_way=-1), DataError, "n_way=-1; expected 0 to"),
        (whole(n_way="3"), DataError, "n_way='3'; expected 0 to"),
        ((X, Y, QX[:, :4], QY), ConfigError, r"cannot be run on examples of shape \(4,\)"),
        ((X[:, :4], Y, QX, QY), ConfigError, r"cannot be run on examples of shape \(4,\)"),
        ((X.long(), Y, QX, QY), ConfigError, "cannot be run on examples"),
        ((X * NAN, Y, QX, QY), NumericsError, "support loss is nan"),
        ((X, Y, QX / 0, QY), NumericsError, "query loss is nan"),
    ],
)
def test_an_episode_that_is_wrong_is_refused(
    episode: Any, error: type[MetafleetError], message: str, is_bound: bool
) -> None:
    meta = MetaLearner(dense_net())
    if is_bound:
        meta.bind((X, Y))
    refused(meta, lambda: meta.optimize([episode]), error, message)
    refused(meta, lambda: meta.evaluate([episode]), error, message)
    meta.optimize([(X, Y, QX, QY)])


def test_values_after_classes_and_what_is_no_list_of_episodes_are_refused() -> None:
    meta = MetaLearner(dense_net())
    meta.bind((X, Y))

    refused(meta, lambda: meta.optimize([value_episode()]), DataError, "targets are values")
    for nothing in ([], iter(())):
        refused(meta, lambda given=nothing: meta.optimize(given), ConfigError, "0 episodes")
        refused(meta, lambda given=nothing: meta.evaluate(given), ConfigError, "0 episodes")
    refused(meta, lambda: meta.optimize((X, Y, QX, QY)), DataError, "an episode is a Tensor")
    refused(meta, lambda: meta.optimize(whole()), DataError, "episodes are of type Episode")
    refused(meta, lambda: meta.evaluate(None), DataError, "episodes are of type NoneType")


@pytest.mark.parametrize(
    ("support", "message"),
    [
        ((X,), "a support set is a tuple of 1"),
        ((X, torch.tensor([0, -1, 1, 1, 2, 2])), "class -1; classes are 0, 1"),
        ((X[:-1], Y), "'x' has 5 examples"),
        ((X[:, :4], Y), r"cannot be run on examples of shape \(4,\)"),
        ((X * NAN, Y), "support loss is nan"),
    ],
)
def test_a_support_set_that_is_wrong_is_refused(support: Any, message: str) -> None:
    meta = MetaLearner(dense_net())
    refused(meta, lambda: meta.adapt(support), MetafleetError, message)


def test_inputs_that_what_has_adapted_does_not_take_are_refused() -> None:
    meta = MetaLearner(dense_net())
    predict = meta.adapt((X, Y))

    refused(meta, lambda: predict(X[:, :4]), ConfigError, r"on examples of shape \(4,\)")
    refused(meta, lambda: predict({"z": X}), DataError, r"inputs are \['z'\] but")
    refused(meta, lambda: predict(None), DataError, "a NoneType is no tensor")
    assert predict(X[:0]).shape == (0, 3)


def test_a_loss_that_would_broadcast_targets_is_refused() -> None:
    x, y, query_x, query_y = value_episode()
    meta = MetaLearner(dense_net(2), loss=F.mse_loss)
    flat = (x, y[:, :1], query_x, query_y[:, :1])
    message = r"given outputs \(6, 2\) and targets \(6, 1\)"

    refused(meta, lambda: meta.optimize([flat]), ConfigError, message)


def test_a_custom_loss_may_leave_examples_out_by_a_negative_class() -> None:
    left_out = torch.where(QY == 0, -100, QY)

    report = MetaLearner(dense_net(), loss=F.cross_entropy).optimize([(X, Y, QX, left_out)])

    assert report.loss > 0.0


class Sequences(nn.Module):
    """Reads sequences of any length, and fails on request."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.breaks = nn.Linear(1, 3).double(), False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.breaks and self.training:
            raise LookupError("a fault of the module's own")
        return self.layer(x[..., None]).mean(dim=1)


def test_inputs_of_a_new_shape_cost_no_forward_pass_of_their_own() -> None:
    module = Sequences()
    meta = MetaLearner(module, inner_steps=1)
    meta.bind((X, Y))
    runs: list[nn.Module] = []
    module.register_forward_hook(lambda layer, *_: runs.append(layer))

    report = meta.optimize([(X[:, :n], Y, QX[:, :n], QY) for n in range(1, 6)])
    predict = meta.adapt((X[:, :2], Y))
    predict(QX[:, :3])

    assert len(report.episodes) == 5
    assert len(runs) == 5 * 2 + 2  # a support and a query pass each


@pytest.mark.parametrize("execution", ["autograd", "vmap", "constant_memory"])
def test_a_later_episode_that_the_module_does_not_take_is_refused(execution: Any) -> None:
    meta = MetaLearner(dense_net(), execution=execution)
    right, wrong = (X, Y, QX, QY), (X, Y, QX[:, :4], QY)
    message = r"cannot be run on examples of shape \(4,\)"

    refused(meta, lambda: meta.optimize([right, right, wrong, right]), ConfigError, message)
    refused(meta, lambda: meta.evaluate([right, wrong]), ConfigError, message)


def test_what_a_module_raises_for_inputs_that_it_takes_is_passed_on() -> None:
    meta = MetaLearner(Sequences())
    meta.bind((X, Y))
    meta.module.breaks = True

    with pytest.raises(LookupError, match="a fault of the module's own"):
        meta.optimize([(X, Y, QX, QY)])


class Graph(nn.Module):
    """Takes the mean over neighbours, of which there is a row for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3).double()

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        return self.layer(adjacency @ x)


def test_inputs_whose_shape_depends_on_how_many_there_are_are_fine() -> None:
    meta = MetaLearner(Graph())
    support, query = ({"x": x, "adjacency": torch.eye(len(x))} for x in (X, QX))

    assert meta.optimize([(support, Y, query, QY)]).step == 1
