import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metafleet.errors import ContractError
from metafleet.params import Params, digest
from metafleet.reduction import TreeReducer


def random_shards(n: int) -> list[Params]:
    """Values of very different size, so that the order of additions shows in the bits."""
    generator = torch.Generator().manual_seed(n)
    size = 10.0 ** torch.randint(-3, 4, (n, 5), generator=generator)
    values = torch.randn(n, 5, generator=generator) * size
    return [{"w": row, "b": row[:2].reshape(1, 2) * 3} for row in values]


def reduce_in(order: list[int]) -> Params:
    shards = random_shards(len(order))
    reducer = TreeReducer(len(order))
    for shard in order:
        reducer.add(shard, {n: t.clone() for n, t in shards[shard].items()})
    return reducer.result()


def tree_sum(values: list[torch.Tensor]) -> torch.Tensor:
    """The definition: pairs of neighbours, level by level."""
    while len(values) > 1:
        pairs = [values[i] + values[i + 1] for i in range(0, len(values) - 1, 2)]
        values = pairs + ([values[-1]] if len(values) % 2 else [])
    return values[0]


@given(st.integers(1, 40).flatmap(lambda n: st.permutations(range(n))))
@settings(max_examples=60, deadline=None)
def test_the_bits_do_not_depend_on_the_order_of_arrival(order: list[int]) -> None:
    assert digest(reduce_in(order)) == digest(reduce_in(sorted(order)))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13, 31])
def test_the_sum_is_that_of_the_fixed_tree(n: int) -> None:
    shards = random_shards(n)
    found = reduce_in(list(range(n)))
    assert digest(found) == digest(
        {name: tree_sum([shard[name] for shard in shards]) for name in ("w", "b")}
    )


def test_a_plain_sum_in_order_of_arrival_would_have_other_bits() -> None:
    shards = random_shards(31)
    forwards, backwards = sum(s["w"] for s in shards), sum(s["w"] for s in reversed(shards))
    assert not torch.equal(torch.as_tensor(forwards), torch.as_tensor(backwards))


@pytest.mark.parametrize("n", [1, 2, 7, 64, 100])
def test_shards_in_order_keep_a_logarithm_of_them_alive(n: int) -> None:
    reducer = TreeReducer(n)
    most = 0
    for shard, tensors in enumerate(random_shards(n)):
        reducer.add(shard, tensors)
        most = max(most, reducer.n_alive)
    assert most <= math.log2(n) + 1
    assert reducer.n_alive == 1


def test_a_shard_that_comes_twice_is_refused_and_not_counted() -> None:
    expected = digest(reduce_in([0, 1, 2]))
    shards = random_shards(3)
    reducer = TreeReducer(3)
    for shard in (2, 0):
        reducer.add(shard, shards[shard])
        with pytest.raises(ContractError, match=f"shard={shard} came twice"):
            reducer.add(shard, random_shards(3)[shard])
    reducer.add(1, shards[1])
    assert digest(reducer.result()) == expected


@pytest.mark.parametrize("shard", [-1, 3])
def test_an_unknown_shard_is_refused(shard: int) -> None:
    with pytest.raises(ContractError, match=f"shard={shard}; expected 0 to 2"):
        TreeReducer(3).add(shard, random_shards(1)[0])


def test_a_shard_of_another_model_is_refused_and_may_be_replaced() -> None:
    shards = random_shards(2)
    reducer = TreeReducer(2)
    reducer.add(0, shards[0])
    for foreign in ({"w": torch.rand(4), "b": torch.rand(1, 2)}, {"w": torch.rand(5)}):
        with pytest.raises(ContractError, match="other names or shapes"):
            reducer.add(1, foreign)
    assert reducer.missing == (1,)
    reducer.add(1, shards[1])
    assert digest(reducer.result()) == digest(reduce_in([0, 1]))


def test_a_result_before_the_last_shard_is_refused() -> None:
    reducer = TreeReducer(3)
    reducer.add(1, random_shards(3)[1])
    with pytest.raises(ContractError, match="2 of 3 shards are missing, first 0"):
        reducer.result()


def test_learners_without_parameters_can_be_reduced() -> None:
    reducer = TreeReducer(2)
    reducer.add(1, {})
    reducer.add(0, {})
    assert reducer.result() == {}


def test_there_is_at_least_one_shard() -> None:
    with pytest.raises(ContractError, match="n_shards=0"):
        TreeReducer(0)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13, 31])
def test_shards_that_may_only_be_read_give_the_same_bits_and_stay_as_they_are(n: int) -> None:
    shards = random_shards(n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n)).tolist()
    reducer = TreeReducer(n)
    for shard in order:
        reducer.add(shard, shards[shard], may_change=False)

    assert digest(reducer.result()) == digest(reduce_in(list(range(n))))
    assert all(
        map(
            torch.equal,
            *zip(
                *((s["w"], r["w"]) for s, r in zip(shards, random_shards(n), strict=True)),
                strict=True,
            ),
        )
    )


@pytest.mark.parametrize("n", [2, 7, 64, 100])
def test_memory_is_reused(n: int) -> None:
    reducer = TreeReducer(n)
    most = 0
    for shard, tensors in enumerate(random_shards(n)):
        reducer.add(shard, tensors, may_change=False)
        most = max(most, reducer.n_alive)

    assert most <= math.log2(n) + 1
    reducer.result()
    assert reducer.n_alive == 1


@pytest.mark.parametrize("fan_in", [2, 4, 8])
@pytest.mark.parametrize("n", [3, 8, 13, 31])
def test_sums_of_aligned_groups_add_up_to_the_same_bits(n: int, fan_in: int) -> None:
    shards = random_shards(n)
    groups = [shards[first : first + fan_in] for first in range(0, n, fan_in)]
    total = TreeReducer(len(groups))
    for index, group in enumerate(groups):
        part = TreeReducer(len(group))
        for shard, tensors in enumerate(group):
            part.add(shard, tensors, may_change=False)
        total.add(index, part.result())

    assert digest(total.result()) == digest(reduce_in(list(range(n))))
