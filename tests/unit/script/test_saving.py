import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from metafleet import MetaLearner
from metafleet.errors import CheckpointError
from tests.unit.script.modules import conv_net, dense_net, image_episode, vector_episode

SGD = {"optimiser": lambda params: torch.optim.SGD(params, lr=0.01, momentum=0.9)}


def trained(algorithm: str, **options) -> MetaLearner:
    meta = MetaLearner(conv_net(dropout=0.3), algorithm, **options)
    meta.optimize([image_episode(0), image_episode(1)])
    return meta


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("maml", {}),
        ("maml", {"batch_norm": "per_step"}),
        ("meta_sgd", SGD),
        ("protonet", {"head": "9", "batch_norm": "transductive"}),
        ("snail", {"filters": 4}),
    ],
)
def test_who_goes_on_from_a_file_ends_with_the_same_bits(
    algorithm: str, options, tmp_path: Path
) -> None:
    meta = trained(algorithm, **options)
    meta.save(tmp_path / "meta.safetensors")
    again = MetaLearner(conv_net(dropout=0.3), algorithm, **options)
    torch.nn.init.zeros_(again.module[0].weight)

    again.load(tmp_path / "meta.safetensors")

    assert again.step == 1
    episodes = [image_episode(2), image_episode(3)]
    assert meta.optimize(episodes) == again.optimize(episodes)
    for one, other in zip(
        meta.module.state_dict().values(), again.module.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    assert list(tmp_path.iterdir()) == [tmp_path / "meta.safetensors"]


def refused(meta: MetaLearner, path: Path, message: str) -> None:
    meta.bind(vector_episode()[:2])
    before = copy.deepcopy(meta.module.state_dict())
    with pytest.raises(CheckpointError, match=message):
        meta.load(path)
    assert meta.step == 0
    assert all(torch.equal(v, before[n]) for n, v in meta.module.state_dict().items())


def test_a_file_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    meta = MetaLearner(dense_net(), inner_lr=0.2)
    meta.optimize([vector_episode()])
    meta.save(path)

    refused(MetaLearner(dense_net(), "meta_sgd"), path, "is of algorithm 'maml', not of 'meta_sgd'")
    refused(MetaLearner(dense_net(), inner_lr=0.3), path, "learned with inner_lr=0.2, not 0.3")
    refused(MetaLearner(dense_net(4), inner_lr=0.2), path, r"has shape \(3,\).*expected \(4,\)")
    refused(MetaLearner(dense_net(), inner_lr=0.2, **SGD), path, "of another outer optimiser")
    wider = torch.nn.Sequential(*dense_net(), torch.nn.Linear(3, 3).double())
    refused(MetaLearner(wider, inner_lr=0.2), path, r"tensor 'module.3.bias' is not in")
    refused(MetaLearner(dense_net()), tmp_path / "none", "does not exist")


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    meta = MetaLearner(dense_net())
    meta.optimize([vector_episode()])
    meta.save(path)
    tensors = load_file(path)

    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    refused(MetaLearner(dense_net()), path, "cannot be read")
    path.write_bytes(b"no safetensors")
    refused(MetaLearner(dense_net()), path, "cannot be read")
    save_file(tensors, path)
    refused(MetaLearner(dense_net()), path, "was not written by MetaLearner.save")
    save_file(tensors, path, {"metafleet": '{"format": 1, "surprise": []}'})
    refused(MetaLearner(dense_net()), path, "was not written by MetaLearner.save")


def test_a_file_stays_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    meta = MetaLearner(dense_net())
    meta.optimize([vector_episode()])

    with pytest.raises(CheckpointError, match="cannot be written"):
        meta.save(tmp_path / "no folder" / "meta.safetensors")

    assert dataclasses.asdict(meta.optimize([vector_episode()]))["step"] == 2
