"""The benchmark of pairs: which query, pair and picture belong together."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import pairs
from metafleet.episode import Episode, EpisodeShape, ExampleSet
from metafleet.learners.registry import build_learner
from metafleet.models.registry import model_factory
from metafleet.orchestrator.cli.main import main
from metafleet.problem import Problem
from tests.menagerie import make_classes

EXPERIMENT = """
name = "things"
data = { name = "folder", imported = "things", modalities = ["audio", "image"] }
episodes = { n_way = 2, k_shot = 1, n_query = 1 }
model = { name = "fusion", dim = 8 }
learner = { name = "protonet" }
outer = { steps = 1, meta_batch_size = 1, lr = 1e-3 }
validation = { every = 0 }
test = { episodes = 2, baselines = false }
"""


def _near(owners: list[int]) -> Tensor:
    """Rows near those of other examples: row i is near row ``owners[i]``."""
    generator = torch.Generator().manual_seed(4)
    return torch.eye(4)[owners] + 0.1 * torch.randn(4, 4, generator=generator)


@pytest.mark.parametrize(
    ("words", "pictures", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], (1.0, 1.0, 1.0)),
        ([1, 1, 2, 3], [0, 1, 2, 3], (0.75, 1.0, 0.75)),
        ([0, 1, 2, 3], [1, 0, 2, 3], (1.0, 0.5, 0.5)),
        ([1, 2, 0, 3], [1, 2, 0, 3], (0.25, 0.25, 1.0)),
    ],
    ids=["right", "a wrong word", "wrong pictures", "errors that cancel"],
)
def test_a_word_leads_to_a_pair_and_the_pair_to_a_picture(
    words: list[int], pictures: list[int], expected: tuple[float, float, float]
) -> None:
    shape = {"audio": (4,), "image": (4,)}
    problem = Problem(shape, 0, {"meta_train": EpisodeShape(4, 1, 1)})
    encoders = {name: {"name": "adapter"} for name in shape}
    model = {"name": "fusion", "method": "join", "encoders": encoders}
    learner = build_learner({"name": "protonet"}, problem, model_factory(model, problem))
    targets = torch.arange(4)
    support = ExampleSet({"audio": torch.eye(4), "image": torch.eye(4)}, targets)
    query = ExampleSet({"audio": _near(words), "image": _near(pictures)}, targets)
    episode = Episode(support, query, n_way=4)

    assert pairs.match(learner, learner.init_state(1), episode, ("audio", "image")) == expected


def test_every_item_of_an_episode_has_both_modalities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for number, split in enumerate(("train", "val", "test")):
        classes = range(8 * number, 8 * number + 8)
        make_classes(tmp_path / "things" / split, classes, n_items=5, seed=1)  # some lack a sound
    Path("things.toml").write_text(EXPERIMENT)
    assert main(["data", "import", "things", "--set", "image.side=16"]) == 0
    assert main(["submit", "things.toml", "--in-process"]) == 0
    drawn = []

    def match(*given: object) -> tuple[float, float, float]:
        drawn.append(given[2])
        return found(*given)  # type: ignore[arg-type]

    found = pairs.match
    monkeypatch.setattr(pairs, "match", match)
    monkeypatch.setattr("sys.argv", ["pairs", "latest", "--episodes", "20"])
    capsys.readouterr()

    pairs.main()

    printed = capsys.readouterr().out
    assert len(re.findall(r"^(?:without )?meta-train\w+ .* ± .* %$", printed, re.MULTILINE)) == 6
    assert len(drawn) == 40
    for episode in drawn:
        assert isinstance(episode, Episode)
        for items in (episode.support, episode.query):
            assert items.targets.tolist() == [0, 1]
            sounds = items.inputs["audio"].flatten(1)
            assert (sounds.std(dim=1) > 0).all()
