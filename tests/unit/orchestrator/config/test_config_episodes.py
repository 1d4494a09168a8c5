"""Configurations and their episodes: on data that cannot fill them, and judged on others."""

from pathlib import Path

import pytest
import torch

from metafleet.data.registry import open_source
from metafleet.episodes.classes import ClassEpisodeSource
from metafleet.episodes.items import ClassRows, Modality
from metafleet.errors import ConfigError
from metafleet.orchestrator.config.experiment import ExperimentConfig


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["k_shot=3", "meta_test.n_query=2"], {"k_shot": 3, "meta_test.n_query": 2}),
        (["meta_test.n_query=2", "k_shot=1", "k_shot=3"], {"k_shot": 3, "meta_test.n_query": 2}),
        (["k_shot=3", "k_shot=1"], {"k_shot": 1}),
        (["k_shot=5", "meta_test.n_query=50", "n_query=50"], {}),
        (["meta_test={k_shot=1, n_query=50}"], {"meta_test.k_shot": 1}),
    ],
    ids=str,
)
def test_other_episodes_are_named_by_what_their_split_has_otherwise(
    good: Path, overrides: list[str], changes: dict[str, int]
) -> None:
    own = ExperimentConfig.load(good)

    other = own.with_episodes([f"episodes.{it}" for it in overrides], split="meta_test")

    assert other.episodes.changes_from(own.episodes, "meta_test") == changes


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "episodes.meta_val.missing_rate=0.5",
            "--set episodes.meta_val.missing_rate changes nothing of the episodes of 'meta_test', "
            "which are judged; leave it out, or judge with --split meta_val",
        ),
        (
            "episodes.n_query=7",
            "--set episodes.n_query changes nothing of the episodes of 'meta_test', for which "
            "episodes.meta_test.n_query=50 decides; set episodes.meta_test.n_query in its place",
        ),
    ],
)
def test_an_assignment_that_decides_nothing_of_the_judged_episodes_is_refused(
    good: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        ExperimentConfig.load(good).with_episodes([override], split="meta_test")

    assert str(caught.value) == message


def source_of(**n_classes: int) -> ClassEpisodeSource:
    """Pictures of so many classes in each split, with 20 items each."""
    return ClassEpisodeSource(
        {"image": Modality((1, 28, 28), lambda rows: torch.zeros(len(rows), 1, 28, 28))},
        {split: [ClassRows(20 * i, 20) for i in range(n)] for split, n in n_classes.items()},
        name="glyphs",
    )


def test_more_classes_than_a_split_has_is_refused_for_each_split(good: Path) -> None:
    n_classes = {"meta_train": 9, "meta_val": 4, "meta_test": 5}
    config = ExperimentConfig.load(
        good,
        [
            "data.name=glyphs",
            "episodes.n_way=10",
            "episodes.meta_test.n_query=5",
            "model={name='conv4'}",
            "outer.lr=0.1",
            "validation.every=5",
        ],
    )

    with pytest.raises(ConfigError) as caught:
        config.check_source(source_of(**n_classes))

    assert str(caught.value).splitlines() == [
        f"--set: n_way=10 but split {split!r} of 'glyphs' has {n} classes; lower n_way or pick "
        "another split"
        for split, n in n_classes.items()
    ]
    config.check_source(source_of(**dict.fromkeys(n_classes, 10)))


def test_a_split_that_the_run_does_not_use_may_have_too_few_classes(good: Path) -> None:
    asked = ["data.name=glyphs", "model={name='conv4'}", "episodes.n_way=3"]
    asked.append("episodes.meta_test.n_query=5")
    without = ExperimentConfig.load(good, [*asked, "validation.every=0"])
    validating = ExperimentConfig.load(good, [*asked, "validation.every=1"])
    source = source_of(meta_train=9, meta_val=2, meta_test=3)

    without.check_source(source)
    with pytest.raises(ConfigError, match="n_way=3 but split 'meta_val' of 'glyphs' has 2"):
        validating.check_source(source)


def test_a_problem_in_every_split_is_reported_once(good: Path) -> None:
    asked = ["data.name=glyphs", "model={name='conv4'}", "episodes.n_way=5"]
    config = ExperimentConfig.load(good, [*asked, "episodes.support_modalities=['txt']"])

    with pytest.raises(ConfigError, match=r"^--set: .*holds 'txt'; the data have [^\n]*$"):
        config.check_source(source_of(meta_train=9, meta_val=9, meta_test=9))


@pytest.mark.parametrize("of_file", [False, True])
def test_a_model_that_does_not_fit_the_data_names_where_it_came_from(
    of_file: bool, tmp_path: Path, good: Path
) -> None:
    asked = ["model={name='conv4'}"]
    if of_file:
        good.write_text(good.read_text().replace('"mlp"\nhidden = [16, 16]', '"conv4"'))
        asked = ["outer.steps=60", "model.channels=8"]
    config = ExperimentConfig.load(good, asked)

    with pytest.raises(ConfigError, match="'image'") as caught:
        config.check_source(open_source({"name": "sinusoid"}, tmp_path))

    assert str(caught.value).startswith(f"{good}: " if of_file else "--set: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("of_file", [False, True])
@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("model", "zzz", "1"), ("learner", "inner_steps", "0"), ("model", "modalities", "['image']")],
)
def test_a_wrong_option_names_where_it_came_from_and_not_where_another_did(
    section: str, name: str, value: str, of_file: bool, tmp_path: Path, good: Path
) -> None:
    text, other = good.read_text(), "model.hidden=[8]"
    if of_file:
        good.write_text(text.replace(f"[{section}]", f"[{section}]\n{name} = {value}"))
    wrong = [] if of_file else [f"{section}.{name}={value}"]

    with pytest.raises(ConfigError, match=name) as caught:
        config = ExperimentConfig.load(
            good, ["outer.steps=60", other, "learner.inner_lr=1", *wrong]
        )
        config.check_source(open_source({"name": "sinusoid"}, tmp_path))

    assert str(caught.value).startswith(f"{good}: " if of_file else "--set: ")


def test_an_option_of_the_file_that_another_learner_has_not_names_the_override(good: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--set: learner 'mann' has no option 'inner_lr'"):
        ExperimentConfig.load(good, ["learner.name=mann"])
