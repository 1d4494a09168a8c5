"""The same meta-gradients with higher and TorchOpt, written like their own examples."""

from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from benchmarks.meta_problems import MetaProblem

PEERS = ("higher", "torchopt")


def versions() -> dict[str, str]:
    """Return the peers' versions."""
    return {peer: metadata.version(peer) for peer in PEERS}


def gradient(peer: str, problem: MetaProblem) -> dict[str, Tensor]:
    """Sum the meta-gradients of a problem's episodes, under our parameter names."""
    problem.net.zero_grad()
    {"higher": _by_higher, "torchopt": _by_torchopt}[peer](problem)
    found = [parameter.grad for parameter in problem.net.parameters()]
    return {n: g for n, g in zip(problem.names, found, strict=True) if g is not None}


def _by_higher(problem: MetaProblem) -> None:
    import higher  # noqa: PLC0415 - slow to import

    net, inputs = problem.net, next(iter(problem.episodes[0].support.inputs))
    optimiser = torch.optim.SGD(net.parameters(), lr=problem.inner_lr)
    for episode in problem.episodes:
        support, query = episode.support, episode.query
        with higher.innerloop_ctx(net, optimiser, copy_initial_weights=False) as (fast, inner):
            for _ in range(problem.inner_steps):
                inner.step(problem.loss(fast(support.inputs[inputs]), support.targets))
            problem.loss(fast(query.inputs[inputs]), query.targets).backward()


def _by_torchopt(problem: MetaProblem) -> None:
    import torchopt  # noqa: PLC0415 - slow to import

    net, inputs = problem.net, next(iter(problem.episodes[0].support.inputs))
    inner: Any = torchopt.MetaSGD(net, lr=problem.inner_lr)
    net_before = torchopt.extract_state_dict(net, by="reference", detach_buffers=True)
    inner_before = torchopt.extract_state_dict(inner, by="reference")
    for episode in problem.episodes:
        support, query = episode.support, episode.query
        for _ in range(problem.inner_steps):
            inner.step(problem.loss(net(support.inputs[inputs]), support.targets))
        problem.loss(net(query.inputs[inputs]), query.targets).backward()
        torchopt.recover_state_dict(net, net_before)
        torchopt.recover_state_dict(inner, inner_before)
