"""Task distributions of the user's own, by "package.module:Class"."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from metafleet.contracts.code_used import describe_code
from metafleet.data.registry import open_data
from metafleet.episode import Episode, EpisodeShape
from metafleet.errors import ConfigError, DataError
from metafleet.seeds import CounterRng
from metafleet.sources import disk_digest
from metafleet.workload import Workload, WorkloadSpec

PACKAGE = "tasks_of_a_user"
SOURCE = '''
import random
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class LineOptions:
    slope_max: float = 2.0


class Lines:
    Options = LineOptions
    version = "1"
    modalities = {"x": (1,)}
    target_dim = 1

    def __init__(self, options):
        self.options = options

    def draw(self, rng, shape, split):
        slope = self.options.slope_max * rng.uniform()
        return self.points(rng, slope, shape.k_shot), self.points(rng, slope, shape.n_query)

    def points(self, rng, slope, n):
        x = torch.tensor(rng.uniforms(n)).unsqueeze(1)
        return x, slope * x


class OtherLines(Lines):
    version = "2"


class GlobalDraws(Lines):
    """Asks the global generators, as a simulator may."""

    def points(self, rng, slope, n):
        x = torch.randn(n, 1) + random.random() + float(np.random.random())
        return x, slope * x


class Blobs:
    Options = LineOptions
    version = "1"
    modalities = {"near": (2,), "far": (3, 4)}
    target_dim = 0

    def __init__(self, options):
        pass

    def draw(self, rng, shape, split):
        return tuple(self.items(shape.n_way, n) for n in (shape.k_shot, shape.n_query))

    def items(self, n_way, n):
        y = torch.arange(n_way).repeat_interleave(n)
        near, far = torch.randn(n * n_way, 2), torch.randn(n * n_way, 3, 4)
        return {"near": near + y[:, None], "far": far}, y


class MixedUp(Blobs):
    def items(self, n_way, n):
        x, y = super().items(n_way, n)
        return x, y.flip(0)


class Partial(Blobs):
    def items(self, n_way, n):
        x, y = super().items(n_way, n)
        return {"near": x["near"]}, y


class Float64(Lines):
    def points(self, rng, slope, n):
        x, y = super().points(rng, slope, n)
        return x.double(), y


class Short(Lines):
    def points(self, rng, slope, n):
        x, y = super().points(rng, slope, n)
        return x[1:], y


class Flat(Lines):
    def points(self, rng, slope, n):
        x, y = super().points(rng, slope, n)
        return x, y[:, 0]


class NotFinite(Lines):
    def points(self, rng, slope, n):
        x, y = super().points(rng, slope, n)
        return x, y / 0


class Lists(Lines):
    def points(self, rng, slope, n):
        x, y = super().points(rng, slope, n)
        return x, y.tolist()


class OneSet(Lines):
    def draw(self, rng, shape, split):
        return self.points(rng, 1.0, shape.k_shot)[0]


class Raises(Lines):
    def draw(self, rng, shape, split):
        raise ZeroDivisionError("float division by zero")


class Counts(Lines):
    """Keeps something from call to call."""

    n_calls = 0

    def draw(self, rng, shape, split):
        self.n_calls += 1
        return self.points(rng, float(self.n_calls), shape.k_shot), self.points(rng, 1.0, 3)


class BadConstructor(Lines):
    def __init__(self, options):
        raise RuntimeError("no licence for the simulator")


class NoShape(Lines):
    modalities = {"x": 1}


class NegativeTarget(Lines):
    target_dim = -1


class NoVersion(Lines):
    version = 1


class NoDraw:
    Options = LineOptions
    version = "1"


@dataclass
class ThawedOptions:
    slope_max: float = 2.0


class Thawed(Lines):
    Options = ThawedOptions


def function():
    pass
'''
SHAPE = EpisodeShape(n_way=0, k_shot=5, n_query=3)
CLASSES = EpisodeShape(n_way=3, k_shot=2, n_query=4)


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").write_text("")
    (tmp_path / PACKAGE / "tasks.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def opened(name: str, **options: object):
    data = {"name": f"{PACKAGE}.tasks:{name}", **options}
    return open_data(data, Path(), allowed_packages=(PACKAGE,))


def tensors(episode: Episode) -> list[torch.Tensor]:
    parts = (episode.support, episode.query)
    return [tensor for part in parts for tensor in (*part.inputs.values(), part.targets)]


def spec(name: str, model: str = "mlp", **data: object) -> WorkloadSpec:
    bound = opened(name, **data)
    return WorkloadSpec(
        seed=7,
        data={"name": f"{PACKAGE}.tasks:{name}", **data},
        data_digest=bound.digest(),
        episodes={"meta_train": SHAPE},
        model={"name": model},
        learner={"name": "maml", "inner_lr": 0.1, "inner_steps": 1},
    )


@pytest.mark.parametrize("name", ["Lines", "GlobalDraws"])
def test_an_episode_depends_on_its_address_alone(name: str) -> None:
    source = opened(name).open_source()

    def sample(split: str, index: int) -> list[torch.Tensor]:
        return tensors(source.sample(split, SHAPE, CounterRng(7, split, 3, index)))

    first = sample("meta_train", 4)
    torch.manual_seed(99)
    other = sample("meta_train", 5)
    again = sample("meta_train", 4)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], sample("meta_test", 4)[0])
    assert [tuple(tensor.shape) for tensor in first] == [(5, 1), (5, 1), (3, 1), (3, 1)]


def test_drawing_leaves_the_global_generators_as_they_were() -> None:
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    opened("GlobalDraws").open_source().sample("meta_train", SHAPE, CounterRng(1, "meta_train"))
    assert torch.equal(torch.randn(2), expected)


def test_classes_in_several_modalities_are_drawn() -> None:
    source = opened("Blobs").open_source()
    source.check("meta_val", CLASSES)
    episode = source.sample("meta_val", CLASSES, CounterRng(1, "meta_val"))

    assert source.modalities == {"near": (2,), "far": (3, 4)}
    assert episode.support.inputs["far"].shape == (6, 3, 4)
    assert episode.query.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert not episode.is_regression


def test_a_shard_has_the_same_bits_whatever_was_computed_before() -> None:
    built = [
        Workload.build(spec("GlobalDraws"), data_dir=Path(), allowed_packages=(PACKAGE,))
        for _ in range(2)
    ]
    state = built[0].init_state()
    whole = built[0].gradient(state, split="meta_train", step=2, first_episode=0, n_episodes=2)
    torch.manual_seed(1)
    second = built[1].gradient(state, split="meta_train", step=2, first_episode=1, n_episodes=1)
    first = built[1].gradient(state, split="meta_train", step=2, first_episode=0, n_episodes=1)
    assert [m.loss for m in whole.metrics] == [m.loss for m in (*first.metrics, *second.metrics)]


def test_the_digest_holds_the_version_and_the_options() -> None:
    digests = {
        opened("Lines").digest(),
        opened("Lines", slope_max=3.0).digest(),
        opened("OtherLines").digest(),
    }
    assert len(digests) == 3
    assert opened("Lines", slope_max=2).digest() in digests


def test_the_package_is_in_the_fingerprint_also_as_a_part_of_a_mixture() -> None:
    alone = spec("Lines").to_json()
    mixed = alone | {"data": {"name": "mixture", "parts": [alone["data"], {"name": "sinusoid"}]}}
    for values in (alone, mixed):
        found = describe_code(WorkloadSpec.from_json(values))
        assert found[f"package {PACKAGE}"] == disk_digest(PACKAGE)


def test_a_mixture_may_have_custom_parts() -> None:
    parts = [{"name": f"{PACKAGE}.tasks:Lines", "part": "lines"}, {"name": "sinusoid"}]
    data = {"name": "mixture", "parts": parts}
    source = open_data(data, Path(), allowed_packages=(PACKAGE,)).open_source()
    source.check("meta_train", SHAPE)
    assert source.sample("meta_train", SHAPE, CounterRng(1, "meta_train")).is_regression
    with pytest.raises(ConfigError, match=r"part 'lines': .*METAFLEET_ALLOWED_PACKAGES"):
        open_data(data, Path()).open_source()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("Float64", SHAPE, r"support of meta_train episode=0 has x torch.float64 \[5, 1\]; expect"),
        ("Short", SHAPE, r"has x torch.float32 \[4, 1\]; expected torch.float32 \[5, 1\]"),
        ("Flat", SHAPE, r"has y torch.float32 \[5\]; expected torch.float32 \[5, 1\]"),
        ("NotFinite", SHAPE, "has y with values that are not finite"),
        ("Lists", SHAPE, "has y of list; expected a tensor"),
        ("OneSet", SHAPE, r"drew in meta_train episode=0 no pair of sets but Tensor; return"),
        (
            "Raises",
            SHAPE,
            r"failed in meta_train episode=0 \(ZeroDivisionError: .*, tasks\.py:111\)",
        ),
        ("Counts", SHAPE, "drew two different episodes from the same random numbers"),
        ("MixedUp", CLASSES, r"has classes y=\[2, 2, 1, 1, 0, 0\]; expected 2 of each of 0 to 2"),
        ("Partial", CLASSES, r"has x of \['near'\]; expected a tensor for each of \['near', 'far"),
        ("Lines", CLASSES, "n_way=3 but data set .* is regression; set n_way=0"),
        ("Blobs", SHAPE, "n_way=0 but data set .* is classification; expected 2 or more"),
        ("Lines", EpisodeShape(0, 5, 3, missing_rate=0.5), "missing_rate=0.5 but .* remove"),
    ],
)
def test_a_malformed_draw_is_one_line(name: str, shape: EpisodeShape, message: str) -> None:
    source = opened(name).open_source()
    with pytest.raises((ConfigError, DataError), match=message) as told:
        source.check("meta_train", shape)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Absent", "module 'tasks_of_a_user.tasks' has no 'Absent'"),
        ("function", "is a function; expected a class with a frozen dataclass 'Options'"),
        ("NoDraw", "has no method 'draw'"),
        ("NoVersion", "has version=1; expected a class .* a text 'version'"),
        ("Thawed", "has 'Options' that are not frozen"),
        (
            "BadConstructor",
            r"cannot be made \(RuntimeError: no licence .*, tasks\.py:126\)",
        ),
        ("NoShape", r"has modalities=\{'x': 1\}; expected the shape of one example by name"),
        ("NegativeTarget", "has target_dim=-1; expected a whole number"),
    ],
)
def test_a_class_that_is_no_data_set_is_one_line(name: str, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as told:
        opened(name).open_source()
    assert "\n" not in str(told.value)


def test_an_unknown_option_and_a_package_that_is_not_allowed_are_named() -> None:
    with pytest.raises(ConfigError, match="has no option 'slop'; its options are: slope_max"):
        opened("Lines", slop=1.0)
    with pytest.raises(ConfigError, match="METAFLEET_ALLOWED_PACKAGES=tasks_of_a_user"):
        open_data({"name": f"{PACKAGE}.tasks:Lines"}, Path())


def test_nothing_is_prepared_and_the_summary_says_what_an_example_is() -> None:
    data = opened("Blobs")
    data.check_place()
    assert data.is_ready()
    assert data.prepare() is None and data.open_classes() is None
    summary = data.summarise()
    assert summary.modalities["far"].shape == (3, 4)
    assert summary.digest == data.digest()
