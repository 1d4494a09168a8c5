"""Configurations: what is read, what is refused, and in which words."""

import json
from pathlib import Path

import pytest

from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError
from metafleet.experiments import FOLDER, find_experiment
from metafleet.orchestrator.config.experiment import MAX_SEED, ExperimentConfig
from tests.unit.orchestrator.configurations import GOOD


def problem(path: Path, *overrides: str) -> str:
    """The message of the error that loading gives."""
    with pytest.raises(ConfigError) as caught:
        ExperimentConfig.load(path, overrides)
    return str(caught.value)


def edited(path: Path, old: str, new: str) -> Path:
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    return path


def test_a_file_is_read_with_defaults_and_split_overrides(good: Path) -> None:
    config = ExperimentConfig.load(good)

    assert (config.name, config.seed, config.outer.steps) == ("tiny", 4, 10)
    assert (config.outer.optimiser, config.test.episodes) == ("adam", 600)
    assert config.episodes.shape("meta_train") == EpisodeShape(0, 5, 5)
    assert config.episodes.shape("meta_test") == EpisodeShape(0, 5, 50)


def test_json_and_back_gives_the_same_configuration(good: Path) -> None:
    config = ExperimentConfig.load(good)

    stored = json.loads(json.dumps(config.to_json()))

    assert ExperimentConfig.from_json(stored) == config
    assert stored["outer"]["lr"] == 1e-3


def test_overrides_are_toml_values_or_bare_strings(good: Path) -> None:
    config = ExperimentConfig.load(
        good, ["outer.lr=1", "outer.optimiser=sgd", "model.hidden=[8]", "name='other'"]
    )

    assert (config.outer.lr, config.outer.optimiser) == (1.0, "sgd")
    assert (config.model["hidden"], config.name) == ([8], "other")


@pytest.mark.parametrize(
    ("place", "override", "expected"),
    [
        ('imported = "mine"', "data.path=/pets", {"path": "/pets"}),
        ('path = "/pets"', "data.imported=mine", {"imported": "mine"}),
        ('path = "/pets"', "data.path=/birds", {"path": "/birds"}),
        ('imported = "mine"', "data.path=", {"imported": "mine", "path": ""}),
        ('imported = "mine"', "data.label=kind", {"imported": "mine", "label": "kind"}),
    ],
)
def test_a_place_of_the_data_that_is_set_replaces_the_one_of_the_file(
    good: Path, place: str, override: str, expected: dict[str, str]
) -> None:
    path = edited(good, 'name = "sinusoid"', f'name = "folder"\n{place}')
    fitting = ["episodes.n_way=2", "learner.inner_lr=0.1"]

    config = ExperimentConfig.load(path, [*fitting, override])

    assert dict(config.data) == {"name": "folder", **expected}


def test_two_places_of_the_data_that_are_both_set_are_both_kept(good: Path) -> None:
    config = ExperimentConfig.load(
        edited(good, 'name = "sinusoid"', 'name = "folder"'),
        ["episodes.n_way=2", "data.path=/pets", "data.imported=mine"],
    )

    assert dict(config.data) == {"name": "folder", "path": "/pets", "imported": "mine"}


def test_the_workload_holds_what_decides_the_arithmetic(good: Path) -> None:
    spec = ExperimentConfig.load(good).with_seed(9).workload_spec("ab" * 32)

    assert (spec.seed, spec.data_digest) == (9, "ab" * 32)
    assert spec.episodes["meta_test"].n_query == 50
    assert spec.model == {"name": "mlp", "hidden": [16, 16]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("outer.stpes=3", "--set: outer.stpes is not a known key; did you mean 'steps'?"),
        (
            "outer.zzz=3",
            "--set: outer.zzz is not a known key; expected one of: clip_norm, lr, "
            "meta_batch_size, momentum, optimiser, schedule, step_every, step_gamma, steps, "
            "warmup_steps, weight_decay",
        ),
        ("outer.steps='9'", "--set: outer.steps='9' is a string; expected an integer >= 1"),
        ("outer.steps=0", "--set: outer.steps=0; expected an integer >= 1"),
        ("outer.steps=2.0", "--set: outer.steps=2.0 is a float; expected an integer >= 1"),
        ("outer.lr=true", "--set: outer.lr=true is a boolean; expected a number > 0"),
        ("outer.lr=nan", "--set: outer.lr=nan; expected a number > 0"),
        ("outer.lr=[1]", "--set: outer.lr=[1] is an array; expected a number > 0"),
        ("outer=3", "--set: outer=3 is an integer; expected a table"),
        ("model=conv4", "--set: model='conv4' is a string; expected a table"),
        (
            "outer.optimiser=rmsprop",
            "--set: outer.optimiser='rmsprop'; expected one of: adam, sgd",
        ),
        (
            "engine.device=any",
            '--set: engine: device="any" mixes processors that compute other last bits, and '
            'numerics="strict" refuses that; set numerics="relaxed", or device="cpu" or "cuda"',
        ),
        (
            "engine.episodes_per_job=0",
            "--set: engine.episodes_per_job=0; expected an integer >= 1, or 'auto'",
        ),
        (
            "engine.episodes_per_job=some",
            "--set: engine.episodes_per_job='some'; expected an integer >= 1, or 'auto'",
        ),
        (
            "engine.episodes_per_job=2.0",
            "--set: engine.episodes_per_job=2.0 is a float; expected an integer >= 1, or 'auto'",
        ),
        (
            "engine.execution=fast",
            "--set: engine.execution='fast'; expected one of: autograd, vmap, compiled, "
            "constant_memory, auto",
        ),
        ("engine.policy=lax", "--set: engine.policy='lax'; expected one of: strict, partial"),
        ("test.baselines=yes", "--set: test.baselines='yes' is a string; expected true or false"),
        (
            "seed=-1",
            f"--set: seed=-1; expected an integer >= 0 and <= {MAX_SEED}",
        ),
        (
            "name=7",
            "--set: name=7 is an integer; expected a letter, then up to 63 letters, digits, dots, "
            "dashes or underscores",
        ),
        (
            "validation.every=2024-01-01",
            "--set: validation.every=datetime.date(2024, 1, 1) is a date; expected an integer >= 0",
        ),
        (
            "episodes.meta_val.n_way=1",
            "--set: episodes: n_way=1 in split 'meta_val'; expected an integer >= 2, "
            "or 0 for regression",
        ),
        (
            "validation.patience=2",
            "--set: validation: patience=2 with every=0 never validates; expected every >= 1, "
            "or patience=0",
        ),
        (
            "outer.momentum=0.9",
            "--set: outer: momentum=0.9 has no meaning with optimiser='adam'; "
            "expected momentum=0.0, or optimiser='sgd'",
        ),
        (
            "outer.schedule=step",
            "--set: outer: step_every=0 with schedule='step'; expected an integer >= 1",
        ),
        (
            "outer.warmup_steps=11",
            "--set: outer: warmup_steps=11 exceeds steps=10; lower warmup_steps",
        ),
        ("outer.lr", "--set 'outer.lr' assigns nothing; expected key=value, like outer.lr=0.01"),
        (
            "seed.x=1",
            "--set: seed.x cannot be set: seed is an integer, not a table",
        ),
        (
            "outer.steps.x=3",
            "--set: outer.steps.x cannot be set: outer.steps is an integer, not a table",
        ),
        (
            "learner.inner_stpes=1",
            "--set: learner 'maml' has no option 'inner_stpes'; its options are: first_order, "
            "inner_beta2, inner_epsilon, inner_lr, inner_momentum, inner_optimiser, inner_steps, "
            "inner_steps_eval, inner_weight_decay",
        ),
        ("learner.inner_lr=-1", "--set: learner 'maml': inner_lr=-1.0; expected more than 0"),
        (
            "data.name=imagenet",
            "--set: there is no data set 'imagenet'; expected one of: "
            "clinc150, concepts, folder, fsdd, function_families, functions, glyphs, mixture, "
            "omniglot, sinusoid",
        ),
        (
            "model.name=conv5",
            "--set: unknown model 'conv5'; expected one of 'adapter', 'audio_conv', 'conv1d', "
            "'conv4', 'fusion', 'gru', 'mlp', 'ngram_bag', 'raw', 'resnet12', 'transformer', "
            "'video_conv', or 'package.module:Class' for your own",
        ),
    ],
)
def test_a_wrong_key_or_value_is_one_line_with_what_was_expected(
    good: Path, override: str, message: str
) -> None:
    assert problem(good, override) == message


def test_a_problem_in_the_file_names_the_file(good: Path) -> None:
    edited(good, "steps = 10", 'steps = "ten"')

    assert problem(good) == f"{good}: outer.steps='ten' is a string; expected an integer >= 1"


def test_a_missing_key_and_a_missing_section_say_so(good: Path) -> None:
    edited(good, "k_shot = 5\n", "")
    assert problem(good) == f"{good}: episodes.k_shot is missing; expected an integer >= 1"

    edited(good, "[outer]\nsteps = 10\nmeta_batch_size = 4\n", "")
    assert problem(good) == f"{good}: outer is missing; expected a table"

    edited(good, 'name = "mlp"\n', "")
    assert problem(good) == f"{good}: model.name is missing; expected a string"


def test_several_problems_are_all_listed_one_line_each(good: Path) -> None:
    edited(good, "steps = 10", "steps = 0")

    lines = problem(good, "outer.lr=0", "episodes.kshot=1", "learner.inner_steps=0").splitlines()

    assert lines == [
        "--set: episodes.kshot is not a known key; did you mean 'k_shot'?",
        f"{good}: outer.steps=0; expected an integer >= 1",
        "--set: outer.lr=0; expected a number > 0",
        "--set: learner 'maml': inner_steps=0; expected 1 or more",
    ]


def test_text_that_is_not_toml_names_the_line(good: Path) -> None:
    edited(good, "k_shot = 5", "k_shot = ")

    assert problem(good) == f"{good} is not TOML: Invalid value (at line 9, column 10)"


def test_bytes_that_are_not_utf8_name_line_and_byte(good: Path) -> None:
    good.write_bytes(GOOD.encode() + b'description = "caf\xe9"\n')

    assert problem(good) == (f"{good} line 24: byte 0xe9 is not UTF-8; save the file as UTF-8")


def test_a_missing_file_suggests_its_neighbour(good: Path) -> None:
    wrong = good.with_name("tinny.toml")

    assert problem(wrong) == f"{wrong} does not exist; did you mean {good}?"


def test_a_missing_file_in_a_missing_folder_says_what_was_expected(tmp_path: Path) -> None:
    wrong = tmp_path / "nowhere" / "x.toml"

    assert problem(wrong) == (
        f"{wrong} does not exist; expected a TOML file such as experiments/demo.toml"
    )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert problem(tmp_path) == (
        f"{tmp_path} cannot be read (Is a directory); expected a TOML file"
    )


def test_a_stored_configuration_of_another_version_is_refused_by_name(good: Path) -> None:
    stored = ExperimentConfig.load(good).to_json() | {"surprise": 1}

    with pytest.raises(ConfigError) as caught:
        ExperimentConfig.from_json(stored, "configuration of run 7")

    assert str(caught.value).startswith("configuration of run 7: surprise is not a known key")


def test_every_ready_experiment_is_valid_and_documented() -> None:
    paths = sorted(FOLDER.rglob("*.toml"))

    assert {path.parent.name for path in paths} == {"experiments", "paper"}
    for path in paths:
        config = ExperimentConfig.load(path)
        text = path.read_text()
        assert config.name == path.stem
        assert "arXiv:" in text.partition("name =")[0], f"{path.name} cites no source"


def test_a_ready_experiment_is_found_by_its_bare_name_or_as_pages_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_experiment(Path("demo")) == FOLDER / "demo.toml"
    assert find_experiment(tmp_path / "mine.toml") == tmp_path / "mine.toml"
    monkeypatch.chdir(tmp_path)
    assert find_experiment(Path("experiments/demo.toml")) == FOLDER / "demo.toml"
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/demo.toml").touch()
    assert find_experiment(Path("experiments/demo.toml")) == Path("experiments/demo.toml")
    with pytest.raises(ConfigError, match="no experiment 'dmo'; did you mean 'demo'"):
        find_experiment(Path("dmo"))


def test_a_test_has_no_episodes_or_more_than_one(good: Path) -> None:
    assert ExperimentConfig.load(good, ["test.episodes=0"]).test.episodes == 0
    assert "expected an integer >= 2, or 0 for no test" in problem(good, "test.episodes=1")
