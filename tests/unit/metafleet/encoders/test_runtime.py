"""The limit to one thread ends with the last who asked for it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from metafleet.encoders.runtime import one_thread_a_call


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_calls_that_overlap_leave_the_number_as_it_was() -> None:
    first_in, second_in, first_out = (threading.Event() for _ in range(3))
    inside: list[int] = []

    def first() -> int:
        with one_thread_a_call():
            first_in.set()
            assert second_in.wait(60)
        first_out.set()
        return torch.get_num_threads()

    def second() -> int:
        assert first_in.wait(60)
        with one_thread_a_call():
            second_in.set()
            assert first_out.wait(60)
            inside.append(torch.get_num_threads())
        return torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        after = [call.result() for call in (pool.submit(first), pool.submit(second))]

    with ThreadPoolExecutor(1) as pool:  # a thread that has not used torch yet
        after.append(pool.submit(torch.get_num_threads).result())
    assert inside == [1] and after == [3, 3, 3]


@pytest.mark.usefixtures("three_threads")
def test_a_block_in_a_block_keeps_the_limit() -> None:
    with one_thread_a_call():
        with one_thread_a_call():
            pass
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
