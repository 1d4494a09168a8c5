"""Examples that the loss leaves out, in support and query sets."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metafleet import MetaLearner
from metafleet.errors import DataError, MetafleetError, NumericsError
from tests.unit.metafleet.script.by_hand import meta_gradient, sgd, values_of
from tests.unit.metafleet.script.modules import dense_net, vector_episode


def with_left_out(label: int, seed: int = 0):
    x, y, query_x, query_y = (
        t.double() if t.is_floating_point() else t for t in vector_episode(seed)
    )
    y, query_y = y.clone(), query_y.clone()
    y[1] = query_y[[0, 4]] = label
    return x, y, query_x, query_y


@pytest.mark.parametrize("execution", ["autograd", "vmap", "constant_memory"])
@pytest.mark.parametrize(
    ("loss", "label"),
    [
        (None, -100),
        (nn.CrossEntropyLoss(), -100),
        (nn.CrossEntropyLoss(ignore_index=255), 255),
        (lambda o, t: F.cross_entropy(o, t, ignore_index=-1), -1),
    ],
    ids=["default", "-100", "255", "-1"],
)
def test_a_left_out_example_is_as_if_it_were_not_there(loss, label: int, execution: str) -> None:
    module = dense_net()
    before = values_of(module)
    x, y, query_x, query_y = episode = with_left_out(label)
    kept, asked = y != label, query_y != label
    without = (x[kept], y[kept], query_x[asked], query_y[asked])
    expected = meta_gradient(module, without, F.cross_entropy, steps=2, lr=0.3)
    other = MetaLearner(dense_net(), inner_lr=0.3, inner_steps=2)

    meta = MetaLearner(
        module, loss=loss, optimiser=sgd, inner_lr=0.3, inner_steps=2, execution=execution
    )
    report = meta.optimize([episode])

    for name, value in module.named_parameters():
        torch.testing.assert_close(before[name] - value, expected[name], rtol=1e-9, atol=1e-12)
    assert report.accuracy == other.optimize([without]).accuracy
    if execution == "autograd":
        fresh = [MetaLearner(dense_net(), loss=loss, inner_lr=0.3) for _ in range(2)]
        predicted = fresh[0].adapt((x, y))(query_x)
        torch.testing.assert_close(predicted, fresh[1].adapt(without[:2])(query_x))
        judged, plain = fresh[0].evaluate([episode]), fresh[1].evaluate([without])
        assert judged.loss == pytest.approx(plain.loss)
        assert judged.accuracy == plain.accuracy


@pytest.mark.parametrize("algorithm", ["reptile", "anil", "meta_sgd", "maml_plus_plus", "imaml"])
def test_every_learner_that_gives_targets_to_the_loss_alone_takes_them(algorithm: str) -> None:
    meta = MetaLearner(dense_net(), algorithm, head="2", inner_steps=2)
    assert meta.optimize([with_left_out(-100)]).step == 1


@pytest.mark.parametrize("algorithm", ["protonet", "protomaml", "mmaml", "r2d2"])
def test_learners_that_look_at_targets_refuse_them_in_the_support_set(algorithm: str) -> None:
    meta = MetaLearner(dense_net(), algorithm)
    with pytest.raises(DataError, match="the support set has a class -100; classes are 0, 1"):
        meta.optimize([with_left_out(-100)])


@pytest.mark.parametrize("label", [-1, 255])
def test_other_labels_are_still_mistakes(label: int) -> None:
    meta = MetaLearner(dense_net())
    with pytest.raises(MetafleetError, match=r"class -1|256 classes"):
        meta.optimize([with_left_out(label)])


def test_a_support_set_that_is_left_out_as_a_whole_is_refused() -> None:
    x, y, query_x, query_y = with_left_out(-100)
    with pytest.raises(DataError, match="the loss leaves out every example of the support set"):
        MetaLearner(dense_net()).optimize([(x, torch.full_like(y, -100), query_x, query_y)])


@pytest.mark.parametrize("execution", ["autograd", "vmap", "constant_memory"])
def test_a_query_set_that_is_left_out_as_a_whole_is_named(execution: str) -> None:
    x, y, query_x, query_y = with_left_out(-100)
    episode = (x, y, query_x, torch.full_like(query_y, -100))
    meta = MetaLearner(dense_net(), execution=execution)
    message = r"query loss is nan: it leaves out all 9 examples of the query set; expected some"
    for call in (meta.optimize, meta.evaluate):
        with pytest.raises(NumericsError, match=message) as caught:
            call([episode])
        assert "learning rates" not in str(caught.value)
    assert meta.step == 0


def test_a_loss_that_is_finite_without_examples_takes_a_query_set_without_any() -> None:
    def summed(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="sum")

    x, y, query_x, query_y = with_left_out(-100)
    meta = MetaLearner(dense_net(), loss=summed)
    assert meta.optimize([(x, y, query_x, torch.full_like(query_y, -100))]).loss == 0.0
