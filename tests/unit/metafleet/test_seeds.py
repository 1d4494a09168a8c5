import hashlib
import struct
from collections import Counter
from itertools import pairwise

import pytest

from metafleet.seeds import MAX_SEED, CounterRng


def words_by_hand(seed: int, domain: str, step: int, index: int) -> list[int]:
    words: list[int] = []
    for counter in range(3):
        block = hashlib.blake2b(
            struct.pack("<QQQ", step, index, counter),
            key=seed.to_bytes(8, "little"),
            person=domain.encode(),
        ).digest()
        words += [int.from_bytes(block[i : i + 8], "little") for i in range(0, 64, 8)]
    return words


def test_the_stream_is_keyed_blake2b_in_counter_mode() -> None:
    rng = CounterRng(7, "meta_train", 3, 17)
    expected = words_by_hand(7, "meta_train", 3, 17)
    assert [rng.torch_seed() for _ in expected] == [word >> 1 for word in expected]


def test_known_answers_never_change() -> None:
    rng = CounterRng(2026, "meta_test", 5, 9)
    assert [rng.integer(1000) for _ in range(5)] == [382, 824, 571, 329, 397]
    assert rng.sample(50, 6) == [25, 15, 6, 2, 9, 43]
    assert rng.uniform().hex() == "0x1.1a0d02c6e65aep-1"
    assert rng.normal() == pytest.approx(0.43816227417474324, rel=1e-14)


@pytest.mark.parametrize(
    "other",
    [(2, "meta_train", 3, 4), (1, "meta_val", 3, 4), (1, "meta_train", 4, 3), (MAX_SEED, "", 3, 4)],
)
def test_every_part_of_the_address_gives_another_stream(other: tuple[int, str, int, int]) -> None:
    mine = CounterRng(1, "meta_train", 3, 4)
    theirs = CounterRng(*other)
    assert {mine.torch_seed() for _ in range(50)}.isdisjoint(theirs.torch_seed() for _ in range(50))


def test_integers_are_uniform() -> None:
    rng = CounterRng(1, "test")
    counts = Counter(rng.integer(10) for _ in range(20_000))
    chi_square = sum((counts[digit] - 2000) ** 2 / 2000 for digit in range(10))
    assert set(counts) == set(range(10))
    assert chi_square < 27.9  # 99.9 % of uniform generators are below, with 9 degrees


def test_a_bound_near_two_to_the_64_is_unbiased_and_kept() -> None:
    rng = CounterRng(3, "test")
    bound = 3 << 62  # plain scaling would draw every third value twice as often
    drawn = [rng.integer(bound) for _ in range(6000)]
    assert max(drawn) < bound
    share = sum(value % 3 == 0 for value in drawn) / len(drawn)
    assert share == pytest.approx(1 / 3, abs=0.025)


def test_one_possible_value_is_drawn_as_zero() -> None:
    assert CounterRng(1, "test").integer(1) == 0


def test_uniform_and_normal_have_their_moments() -> None:
    rng = CounterRng(5, "test")
    uniforms = [rng.uniform() for _ in range(20_000)]
    normals = [rng.normal() for _ in range(20_000)]
    assert 0.0 <= min(uniforms) < max(uniforms) < 1.0
    assert sum(uniforms) / 20_000 == pytest.approx(0.5, abs=0.01)
    assert sum(normals) / 20_000 == pytest.approx(0.0, abs=0.03)
    assert sum(z * z for z in normals) / 20_000 == pytest.approx(1.0, abs=0.04)
    neighbours = sum(a * b for a, b in pairwise(normals)) / 20_000
    assert neighbours == pytest.approx(0.0, abs=0.03)


def test_a_sample_has_no_value_twice_and_every_order_is_as_likely() -> None:
    orders: Counter[tuple[int, ...]] = Counter()
    for index in range(12_000):
        drawn = CounterRng(1, "test", 0, index).sample(4, 2)
        assert len(set(drawn)) == 2
        orders[tuple(drawn)] += 1
    assert len(orders) == 12
    assert sum((n - 1000) ** 2 / 1000 for n in orders.values()) < 31.3  # 99.9 %, 11 degrees


def test_a_sample_of_all_is_a_permutation_and_of_none_is_empty() -> None:
    assert sorted(CounterRng(1, "test").sample(30, 30)) == list(range(30))
    assert CounterRng(1, "test").sample(30, 0) == []


@pytest.mark.parametrize("n", [7, 3 << 62, 2**64 - 1])  # of the second, every fourth is drawn again
def test_a_sample_is_what_single_integers_shuffle(n: int) -> None:
    one, many = CounterRng(1, "s"), CounterRng(1, "s")
    order: dict[int, int] = {}
    shuffled = []
    for i in range(7):
        j = i + one.integer(n - i)
        order[i], order[j] = order.get(j, j), order.get(i, i)
        shuffled.append(order[i])

    assert many.sample(n, 7) == shuffled
    assert many.integer(n) == one.integer(n)  # as far along the stream
