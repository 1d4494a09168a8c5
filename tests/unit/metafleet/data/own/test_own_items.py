"""Classes of items of the user's own, by "package.module:Class"."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metafleet.contracts.code_used import describe_code
from metafleet.data.bound import BoundData
from metafleet.data.registry import draw_sheet, open_data, open_source
from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError, DataError
from metafleet.inference.run_inputs import input_specs
from metafleet.seeds import CounterRng
from metafleet.sources import disk_digest
from metafleet.workload import WorkloadSpec
from tests.folders import write

PACKAGE = "items_of_a_user"
SOURCE = '''
import random
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Options:
    scale: float = 1.0


class Points:
    Options = Options
    version = "1"
    modalities = {"point": (3,)}

    def __init__(self, options):
        self.scale = options.scale

    def classes(self, split):
        return [f"{split}-{n}" for n in range(3)]

    def load_items(self, name):
        n = int(name[-1])
        return np.full((n + 2, 3), self.scale * n, np.float32)


class Newer(Points):
    version = "2"


class GlobalDraws(Points):
    """Asks the global generators, as a simulator may."""

    def load_items(self, name):
        return np.float32(np.random.rand(4, 3) + random.random())


class Pairs(Points):
    modalities = {"front": (1, 8, 8), "cloud": (4, 3), "point": (3,)}
    kinds = {"front": "image"}

    def load_items(self, name):
        front = np.full((2, 1, 8, 8), 51, np.uint8)
        point, cloud = np.float32(front[:, 0, 0, :3]), np.ones((2, 4, 3), np.float32)
        return {"front": front, "cloud": cloud, "point": point}


class ListsTwice(Points):
    def classes(self, split):
        return ["a", "b"]


class ListsNone(Points):
    def classes(self, split):
        return []


class ListsNumbers(Points):
    def classes(self, split):
        return [1, 2]


class Raises(Points):
    def load_items(self, name):
        raise OSError("the disk is away")


class Doubles(Points):
    def load_items(self, name):
        return np.zeros((2, 3))


class Flat(Points):
    def load_items(self, name):
        return np.zeros(3, np.float32)


class Nothing(Points):
    def load_items(self, name):
        return np.zeros((0, 3), np.float32)


class Lists(Points):
    def load_items(self, name):
        return [[1.0, 2.0, 3.0]]


class Infinite(Points):
    def load_items(self, name):
        return np.full((2, 3), np.nan, np.float32)


class Lacks(Pairs):
    def load_items(self, name):
        return {"front": np.zeros((2, 1, 8, 8), np.uint8)}


class Uneven(Pairs):
    modalities = {"front": (1, 8, 8), "point": (3,)}

    def load_items(self, name):
        return {"front": np.zeros((2, 1, 8, 8), np.uint8), "point": np.zeros((3, 3), np.float32)}


class Floats(Pairs):
    modalities = {"front": (1, 8, 8)}

    def load_items(self, name):
        return np.zeros((2, 1, 8, 8), np.float32)


class Changes(Points):
    def load_items(self, name):
        return np.zeros((2, 3), np.uint8 if name.endswith("1") else np.float32)


class Unkind(Points):
    kinds = {"point": "smell"}


class Misplaced(Points):
    kinds = {"pixel": "image"}


class Both(Points):
    def draw(self, rng, shape, split):
        return None
'''
ALLOWED = (PACKAGE,)


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = tmp_path / "packages"
    write(root / PACKAGE, {"__init__.py": "", "items.py": SOURCE})
    monkeypatch.syspath_prepend(root)
    yield root / PACKAGE
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def options(name: str = "Points", **own: object) -> dict[str, object]:
    return {"name": f"{PACKAGE}.items:{name}", **own}


def opened(data_dir: Path, name: str = "Points", **own: object) -> BoundData:
    return open_data(options(name, **own), data_dir, allowed_packages=ALLOWED)


def test_its_classes_are_counted_and_its_items_drawn_into_episodes(tmp_path: Path) -> None:
    summary = opened(tmp_path, scale=2.0).summarise()
    source = open_source(options(scale=2.0), tmp_path, allowed_packages=ALLOWED)
    episode = source.sample("meta_val", EpisodeShape(2, 1, 1), CounterRng(1, "meta_val"))

    assert summary.splits["meta_train"].class_items == {
        "meta_train-0": 2,
        "meta_train-1": 3,
        "meta_train-2": 4,
    }
    assert summary.modalities["point"].kind == "table"
    assert episode.support.inputs["point"].shape == (2, 3)
    assert set(episode.query.inputs["point"].flatten().tolist()) <= {0.0, 2.0, 4.0}


def test_items_are_loaded_once_until_options_version_or_sources_change(
    tmp_path: Path, package: Path
) -> None:
    def folder(name: str = "Points", **own: object) -> Path:
        prepared = opened(tmp_path, name, **own).prepare()
        assert prepared is not None
        return prepared.path

    first = folder()
    assert folder() == first
    assert len({first, folder(scale=2.0), folder("Newer")}) == 3
    forget()
    (package / "items.py").write_text(SOURCE.replace("n + 2", "n + 3"))
    assert folder() != first


def test_the_version_is_part_of_the_digest_and_places_are_not(tmp_path: Path) -> None:
    first = opened(tmp_path / "a").digest()

    assert opened(tmp_path / "b").digest() == first == opened(tmp_path / "a").summarise().digest
    assert opened(tmp_path / "a", "Newer").digest() != first
    opened(tmp_path / "a").verify()


def test_the_global_generators_are_seeded_and_given_back(tmp_path: Path) -> None:
    np.random.seed(3)
    expected = np.random.rand(2)[1]
    np.random.seed(3)
    np.random.rand()
    first = opened(tmp_path / "a", "GlobalDraws").digest()
    assert np.random.rand() == expected
    assert opened(tmp_path / "b", "GlobalDraws").digest() == first


def test_several_modalities_have_kinds_by_which_files_are_read(tmp_path: Path) -> None:
    data = options("Pairs")
    source = open_source(data, tmp_path, allowed_packages=ALLOWED)
    drawn = source.sample("meta_test", EpisodeShape(2, 1, 1), CounterRng(1, "meta_test"))
    assert np.allclose(drawn.support.inputs["front"], 51 / 255)
    assert drawn.support.inputs["point"].tolist() == [[51.0] * 3] * 2

    draw_sheet(data, tmp_path, tmp_path / "sheet.png", allowed_packages=ALLOWED)
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    with pytest.raises(ConfigError, match="'cloud' are of no kind that is read from files"):
        input_specs(data, tmp_path, allowed_packages=ALLOWED)
    (spec,) = input_specs(options(), tmp_path, allowed_packages=ALLOWED).values()
    assert (spec.kind, spec.options["width"]) == ("table", 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ListsTwice", "has class 'a' twice; expected each in one split, once"),
        ("ListsNone", "has no classes; expected some in meta_train at least"),
        ("ListsNumbers", "has classes [1, 2] in meta_train; expected a list of names"),
        (
            "Raises",
            "'meta_train-0': load_items failed (OSError: the disk is away, items.py:67)",
        ),
        ("Doubles", "has point float64 [2, 3]; expected float32 or uint8 [n, 3], n of 1 or more"),
        ("Flat", "has point float32 [3]; expected float32 or uint8 [n, 3]"),
        ("Nothing", "has point float32 [0, 3]; expected float32 or uint8 [n, 3], n of 1 or more"),
        ("Lists", "has items list; expected an array for each of ['point']"),
        ("Infinite", "has point with values that are not finite; expected finite ones"),
        ("Lacks", "has items ['front']; expected an array for each of ['front', 'cloud', 'point']"),
        ("Uneven", "has {'front': 2, 'point': 3} items; expected as many of each modality"),
        ("Floats", "has front float32 [2, 1, 8, 8]; expected uint8 [n, 1, 8, 8]"),
        ("Changes", "class 'meta_train-1' has items uint8; expected float32, as before"),
        ("Unkind", "has kinds={'point': 'smell'}; no 'smell' is known"),
        ("Misplaced", "has kinds={'pixel': 'image'}; expected modality -> kind"),
        ("Both", "has both 'draw' and 'load_items'; expected a class"),
    ],
)
def test_what_it_does_wrong_is_one_line_and_nothing_is_stored(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        opened(tmp_path / "data", name).prepare()

    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "data").rglob("index.json"))


def test_its_sources_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    opened(tmp_path).prepare()
    spec = WorkloadSpec(seed=1, data=options(), data_digest="", episodes={}, model={}, learner={})
    assert describe_code(spec)[f"package {PACKAGE}"] == disk_digest(PACKAGE)
