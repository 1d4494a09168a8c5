import copy
import dataclasses
import hashlib
import json
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from metafleet import MetaLearner
from metafleet.errors import CheckpointError
from metafleet.params import digest
from metafleet.script.saved_header import SavedHeader
from tests.unit.metafleet.script.modules import conv_net, dense_net, image_episode, vector_episode

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
        ("maml", {"optimiser": lambda params: torch.optim.Adafactor(params, lr=0.01)}),
        ("protonet", {"head": "9", "batch_norm": "transductive"}),
        ("snail", {"filters": 4}),
    ],
)
def test_continuing_from_a_file_ends_with_the_same_bits(
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
    before = copy.deepcopy(meta.module.state_dict())
    with pytest.raises(CheckpointError, match=message) as caught:
        meta.load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert meta.step == 0
    assert all(torch.equal(v, before[n]) for n, v in meta.module.state_dict().items())


def saved(path: Path, **options) -> MetaLearner:
    meta = MetaLearner(dense_net(), **options)
    meta.optimize([vector_episode()])
    meta.save(path)
    return meta


def test_a_file_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    saved(path, inner_lr=0.2)

    refused(MetaLearner(dense_net(), "meta_sgd"), path, "is of algorithm 'maml', not of 'meta_sgd'")
    refused(MetaLearner(dense_net(), inner_lr=0.3), path, "learned with inner_lr=0.2, not 0.3")
    refused(
        MetaLearner(dense_net(4), inner_lr=0.2),
        path,
        r"is torch.float64 \(3, 6\).*expected .* \(4, 6\)",
    )
    refused(
        MetaLearner(dense_net().float(), inner_lr=0.2), path, r"float64.*expected torch.float32"
    )
    refused(MetaLearner(dense_net(), inner_lr=0.2, **SGD), path, "of another outer optimiser")
    refused(
        MetaLearner(conv_net(), inner_lr=0.2), path, "cannot be loaded: the module cannot be run on"
    )
    wider = torch.nn.Sequential(*dense_net(), torch.nn.Linear(3, 3).double())
    refused(MetaLearner(wider, inner_lr=0.2), path, r"tensor 'module.3.bias' is not in it")
    refused(MetaLearner(dense_net()), tmp_path / "none", "does not exist")
    refused(MetaLearner(dense_net()), tmp_path, "is no sound file")


class Momentum(torch.optim.Optimizer):
    """An optimiser of a user's own; copies of it, made as torch makes them, lack ``rate``."""

    def __init__(self, params, name: str = "mean") -> None:
        super().__init__(params, {})
        self.name, self.rate = name, 0.01

    def step(self) -> None:
        for param in self.param_groups[0]["params"]:
            kept = self.state[param]
            kept[self.name] = 0.9 * kept.get(self.name, 0.0) + param.grad
            param.data.sub_(kept[self.name], alpha=self.rate)


def test_an_optimiser_that_cannot_be_copied_is_saved_and_loaded(tmp_path: Path) -> None:
    meta = saved(tmp_path / "meta.safetensors", optimiser=Momentum)
    again = MetaLearner(dense_net(), optimiser=Momentum)

    again.load(tmp_path / "meta.safetensors")

    assert again.optimize([vector_episode(1)]) == meta.optimize([vector_episode(1)])


def test_a_file_of_an_optimiser_with_the_same_options_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    saved(path, optimiser=lambda params: torch.optim.RMSprop(params, lr=0.01))
    forged(path, lambda values: values.update(groups=groups_of(torch.optim.Adam)))

    refused(MetaLearner(dense_net()), path, "cannot go on from it .KeyError: 'exp_avg'")


def groups_of(kind: type[torch.optim.Optimizer]) -> list[dict[str, object]]:
    meta = MetaLearner(dense_net(), optimiser=kind)
    meta.bind(vector_episode()[:2])
    groups = meta.optimiser.state_dict()["param_groups"]
    return [{key: group[key] for key in group if key != "params"} for group in groups]


def test_an_error_of_several_lines_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    saved(path)

    def fail(params) -> torch.optim.Optimizer:
        raise RuntimeError("no room\nfor more")

    refused(MetaLearner(dense_net(), optimiser=fail), path, r"of another learner .*no room\)$")


def test_a_schedule_may_be_made_before_or_after_loading(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    meta = MetaLearner(dense_net(), outer_lr=0.1)
    meta.bind(vector_episode()[:2])
    torch.optim.lr_scheduler.ExponentialLR(meta.optimiser, gamma=0.5)
    meta.optimize([vector_episode()])
    meta.save(path)
    again = MetaLearner(dense_net(), outer_lr=0.1)

    again.load(path)

    assert again.optimiser.param_groups[0]["initial_lr"] == 0.1
    assert again.optimize([vector_episode(1)]) == meta.optimize([vector_episode(1)])


def test_a_meta_learner_that_refused_a_file_takes_any_data(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    saved(path, inner_lr=0.4)
    wider = MetaLearner(dense_net(4), inner_lr=0.4)

    refused(wider, path, r"is torch.float64 \(3, 6\)")

    wider.optimize([vector_episode(n_way=4)])


def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    saved(path)
    tensors, whole = load_file(path), path.read_bytes()

    random = Random(5)
    for _ in range(20):
        path.write_bytes(whole[: random.randrange(len(whole))])
        refused(MetaLearner(dense_net()), path, "is no sound file|was not written")
    for _ in range(20):
        place, bit = random.randrange(len(whole)), 1 << random.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        refused(MetaLearner(dense_net()), path, ".")
    for strange in (b"", b"no safetensors", whole + b"more"):
        path.write_bytes(strange)
        refused(MetaLearner(dense_net()), path, "is no sound file")
    for text in ("", "[]", "{", "[" * 100_000, '{"format": 2, "surprise": []}'):
        save_file(tensors, path, {"metafleet": text})
        refused(MetaLearner(dense_net()), path, "was not written by|does not hash")
    save_file(tensors, path, {"metafleet": '{"format": 1}'})
    refused(MetaLearner(dense_net()), path, "has format 1; this version reads 2")


def test_no_byte_of_a_header_can_change_without_notice(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    saved(path)
    with safe_open(path, "pt") as file:
        text = file.metadata()["metafleet"]
    whole, random = SavedHeader.from_text(text), Random(6)
    for at, before in enumerate(text):
        changed = chr(ord(before) ^ 1 << random.randrange(7))
        try:
            assert SavedHeader.from_text(text[:at] + changed + text[at + 1 :]) == whole
        except CheckpointError as error:
            assert "\n" not in str(error)


def forged(path: Path, change, tensors=None) -> None:
    """Write a file whose digests are right, and whose values are not."""
    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["metafleet"])
    tensors = tensors or load_file(path)
    for name in ("format", "digest"):
        values.pop(name)
    values["tensors"] = digest(tensors)
    change(values)
    text = json.dumps({**values, "format": 2})
    sha256 = hashlib.sha256(json.dumps(json.loads(text), sort_keys=True).encode()).hexdigest()
    save_file(tensors, path, {"metafleet": json.dumps({**json.loads(text), "digest": sha256})})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": 3}, "algorithm=3; expected a text"),
        ({"step": -1}, "step=-1; expected 0 to"),
        ({"step": 2**60}, "step=1152921504606846976; expected 0 to"),
        ({"step": True}, "step=True; expected a whole number"),
        ({"n_support": 0}, "n_support=0; expected 1 or more"),
        ({"n_support": 2**39}, r"has 549755813888 examples.*; expected .* or less: call bind"),
        ({"n_support": 2**39, "inputs": {"x": [[0], "float64"]}}, "has 549755813888 examples"),
        ({"n_way": 10**6}, "n_way=1000000; expected 0 to 10000"),
        ({"n_way": 4}, "the module has 3 outputs but the episode 4 classes"),
        ({"target_dim": 1.0}, "target_dim=1.0; expected a whole number"),
        ({"target_dim": -(2**40)}, "target_dim=-1099511627776; expected 0 or more"),
        ({"inputs": {}}, "targets are classes but the first episode's were values"),
        ({"inputs": {"x": [[-5], "float64"]}}, "damaged, or of another learner .RuntimeError"),
        ({"inputs": {"x": [["a"], "float64"]}}, "damaged, or of another learner .TypeError"),
        ({"inputs": {"x": 5}}, "damaged, or of another learner .TypeError"),
        ({"inputs": {"x": [[5, 2**40], "float64"]}}, "call bind"),
        ({"inputs": {"x": [[2**40], "int64"], "y": [[-(2**40)], "int64"]}}, "call bind"),
        ({"inputs": {"x": [[7], "float64"]}}, r"cannot be run on examples of shape \(7,\)"),
        ({"options": {"inner_lr": 0.4, "x": 1}}, "another version's learner has no option 'x'"),
        ({"options": {"inner_lr": 0.3}}, r"was learned with inner_lr=0.3, not 0.4"),
        ({"groups": [{}]}, "of another outer optimiser"),
        ({"groups": None}, "groups=None; expected a list"),
        ({"scalars": {"0.step": "1"}}, "the outer optimiser cannot go on from it .ValueError"),
        ({"scalars": {"9.step": 1.0}}, "damaged, or of another learner .KeyError: 9"),
        ({"surprise": 1}, "header has no option 'surprise'"),
        ({"tensors": "0"}, "do not hash"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_wrong_value_with_a_right_digest_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "meta.safetensors"
    saved(path)

    forged(path, lambda values: values.update(change))

    refused(MetaLearner(dense_net()), path, message)


def test_an_option_that_came_after_the_file_is_at_its_default(tmp_path: Path) -> None:
    path = tmp_path / "meta.safetensors"
    saved(path)
    forged(path, lambda values: values["options"].pop("inner_optimiser"))

    MetaLearner(dense_net()).load(path)

    refused(
        MetaLearner(dense_net(), inner_optimiser="adam"),
        path,
        "was learned with inner_optimiser='sgd', not 'adam'",
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimiser.0.exp_avg", torch.tensor(1.0), "cannot go on from it .RuntimeError"),
        ("optimiser.0.exp_avg", None, "cannot go on from it .KeyError: 'exp_avg'"),
        ("optimiser.0.step", torch.ones(6, 5), "cannot go on from it .RuntimeError"),
        ("optimiser.a.step", torch.tensor(1.0), "damaged, or of another learner .ValueError"),
        ("optimiser.0", torch.tensor(1.0), "damaged, or of another learner .ValueError"),
        ("module.0.bias", torch.ones(6), r"is torch.float32 \(6,\); expected torch.float64"),
        ("surprise", torch.ones(1), "tensor 'surprise' is only in"),
    ],
)
def test_a_wrong_tensor_with_a_right_digest_is_refused(
    name: str, value: torch.Tensor | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "meta.safetensors"
    saved(path)

    tensors = load_file(path) | ({} if value is None else {name: value})
    if value is None:
        del tensors[name]
    forged(path, lambda values: None, tensors)

    refused(MetaLearner(dense_net()), path, message)


def test_a_file_stays_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    meta = MetaLearner(dense_net())
    meta.optimize([vector_episode()])

    with pytest.raises(CheckpointError, match="cannot be written"):
        meta.save(tmp_path / "no folder" / "meta.safetensors")

    assert dataclasses.asdict(meta.optimize([vector_episode()]))["step"] == 2
