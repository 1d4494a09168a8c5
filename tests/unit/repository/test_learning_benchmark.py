"""The benchmark of the learning core compares before it times, and says what it lacks."""

import re
from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from benchmarks import meta_problems, peers
from benchmarks.agreement import TOLERANCE, checked, distance
from benchmarks.learning import main
from benchmarks.meta_problems import MetaProblem
from metafleet.episode import EpisodeShape
from metafleet.execution import make_execution
from tests.paths import REPOSITORY


def ours(problem: MetaProblem) -> Mapping[str, Tensor]:
    return (
        make_execution("autograd", problem.learner).gradient(problem.state, problem.episodes).grads
    )


def tiny_conv() -> MetaProblem:
    shape = EpisodeShape(n_way=2, k_shot=1, n_query=1)
    return meta_problems.conv(shape, 1, n_blocks=2, inner_lr=0.1, inner_steps=2)


@pytest.mark.parametrize("make", [lambda: meta_problems.sinusoid(3, 2), tiny_conv])
def test_the_peers_and_we_compute_the_same_gradient(make: object) -> None:
    assert callable(make)
    problem = make()
    rows = {"ours": ours} | {peer: partial(peers.gradient, peer) for peer in peers.PEERS}
    exact = checked(problem, rows)
    assert all(bool((gradient != 0).any()) for gradient in exact.values())
    assert distance(peers.gradient("higher", problem), exact) < 1e-3


def test_a_row_with_another_gradient_ends_the_benchmark() -> None:
    def wrong(problem: MetaProblem) -> Mapping[str, Tensor]:
        return {name: 1.001 * gradient for name, gradient in ours(problem).items()}

    with pytest.raises(SystemExit, match=f"wrong differs from ours by 1.0e-03.*{TOLERANCE}"):
        checked(meta_problems.sinusoid(2, 1), {"ours": ours, "wrong": wrong})


def test_without_a_gpu_the_benchmark_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["learning", "--device", "cuda"])
    with pytest.raises(SystemExit, match=r"nothing was measured: .*no GPU") as ended:
        main()
    assert "\n" not in str(ended.value)


def test_each_target_on_the_page_is_a_floor_or_a_ceiling() -> None:
    page = (REPOSITORY / "docs" / "explanation" / "learning-speed.md").read_text()
    table = page.split("| quantity | measured | target |\n")[1].split("\n\n")[0].splitlines()[1:]
    targets = [row.split("|")[-2].strip() for row in table]

    assert len([bound for bound in targets if bound]) >= 5
    assert all(re.fullmatch(r"([<>]= [\d.,]+)?", bound) for bound in targets)
