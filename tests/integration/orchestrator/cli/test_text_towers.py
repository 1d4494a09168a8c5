"""`metafleet adapt` with names of classes: open_clip, and an encoder of a user's package."""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import metafleet
from metafleet.encoders import registry
from metafleet.encoders.class_texts import ClassTexts
from metafleet.encoders.registry import get_encoder
from metafleet.inference.adapted_model import AdaptedModel
from metafleet.orchestrator.cli.main import main
from tests.colour_words import RGB, draw
from tests.menagerie import make_classes
from tests.unit.metafleet.encoders import tiny_models as tiny
from tests.vision_libraries import use_vision_libraries

use_vision_libraries()
import open_clip  # noqa: E402

_RUN = """
name = "named"

[data]
name = "folder"
imported = "named"

[episodes]
n_way = 2
k_shot = 1
n_query = 2
class_text = true

[model]
name = "raw"

[learner]
name = "text_prototypes"
scale = 10

[outer]
steps = 4
lr = 0.5
meta_batch_size = 4

[validation]
every = 2
episodes = 4

[test]
episodes = 4
"""
OWN = "ownpair.towers:ColourWords"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of pictures, a model of open_clip in "clip", and a package of a user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("METAFLEET_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("METAFLEET_ALLOWED_PACKAGES", "ownpair")
    (tmp_path / "ownpair").mkdir()
    (tmp_path / "ownpair" / "__init__.py").write_text("")
    (tmp_path / "ownpair" / "towers.py").write_text(
        "from tests.colour_words import ColourWords\n\n\nclass Other(ColourWords):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    make_classes(tmp_path / "pets", range(0, 12, 5), n_items=2, seed=1)
    tiny.write_open_clip(tmp_path / "clip")
    registry._made.cache_clear()
    yield tmp_path
    for module in [each for each in sys.modules if each.partition(".")[0] == "ownpair"]:
        del sys.modules[module]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) != 0
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    return said[0]


def test_zero_shot_gives_the_probabilities_of_open_clip(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["a photo of a {}.", "a {}"]
    (home / "names, short.txt").write_text("small cat\ndog\n\nbird\n")
    given = [word for prompt in prompts for word in ("--prompt", prompt)]
    encoder = ["--encoder", "image=open_clip:clip", "--head", "zero_shot"]
    adapt = ["adapt", *encoder, *given, "--classes", "names, short.txt", "--out", "zs.model"]
    assert main(adapt) == 0
    said = capsys.readouterr()
    assert "zs.model: 3 classes from their names, without examples\n  small cat\n" in said.out
    assert "head zero_shot, names as 'a photo of a {}.' and 'a {}'; nothing is" in said.err

    assert "No pretrained weights" not in said.err  # open_clip warns before the weights are read
    assert main(["predict", "zs.model", "pets", "--out", "labels.csv"]) == 0

    model = tiny.write_open_clip(home / "again")
    tokenizer = open_clip.get_tokenizer("local-dir:clip")
    pictures = get_encoder("open_clip:clip", kind="image")
    assert pictures.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    texts = []
    with torch.no_grad():
        for name in ("small cat", "dog", "bird"):
            rows = model.encode_text(tokenizer([each.replace("{}", name) for each in prompts]))
            texts.append((rows / rows.norm(dim=1, keepdim=True)).mean(dim=0))
    weights = torch.stack([text / text.norm() for text in texts])
    with (home / "labels.csv").open() as handle:
        found = list(csv.DictReader(handle))
    from metafleet.data.decoding.image import ImageDecoder, ImageOptions  # noqa: PLC0415

    options = ImageOptions(**pictures.reading("image"))
    for row in found:
        pixels = ImageDecoder().decode((home / "pets" / row["item"]).read_bytes(), options)
        features = torch.from_numpy(pictures.encode_part(np.asarray(pixels)[None]))
        cosines = weights @ (features / features.norm())[0]
        scale = model.logit_scale.detach().exp()
        expected = torch.softmax(scale * cosines, dim=0).max()
        assert float(row["probability"]) == pytest.approx(float(expected), abs=1e-3)


def test_zero_shot_reads_the_names_of_a_folder(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapt = ["adapt", "--encoder", "image=open_clip:clip", "--head", "zero_shot"]
    names = sorted(path.name for path in (home / "pets").iterdir())
    assert main([*adapt, "--support", "pets", "--out", "folder.model"]) == 0
    assert f"{len(names)} classes from their names" in capsys.readouterr().out
    assert main([*adapt, "--classes", ",".join(names), "--out", "names.model"]) == 0
    for model in ("folder", "names"):
        assert main(["predict", f"{model}.model", "pets", "--out", f"{model}.csv"]) == 0

    assert (home / "folder.csv").read_text() == (home / "names.csv").read_text()
    with (home / "folder.csv").open() as handle:
        assert {row["label"] for row in csv.DictReader(handle)} <= set(names)


def test_the_card_repeats_the_model_and_a_moved_encoder_reads_new_names(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = ["--encoder", f"image=open_clip:{home / 'clip'}", "--head", "zero_shot"]
    given = ["--prompt", "a {}", "--classes", "small cat,dog", "--out", "zs.model"]
    assert main(["adapt", *encoder, *given]) == 0
    card = (home / "zs.model" / "README.md").read_text()
    assert "--head zero_shot --prompt 'a {}' --set head.scale=" in card
    assert "--classes 'small cat,dog' --out NEW-MODEL" in card
    (home / "clip").rename(home / "moved")
    registry._made.cache_clear()
    other = ["adapt", "zs.model", "--classes", "cat,bird", "--out", "other.model"]
    assert "has moved, give --encoder image=open_clip:PATH" in refused(capsys, *other)

    assert main([*other, "--encoder", f"image=open_clip:{home / 'moved'}"]) == 0

    assert main(["predict", "other.model", "pets", "--out", "labels.csv"]) == 0


def test_examples_and_names_of_a_users_encoder_become_a_model(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(home / "colours", RGB, n=2, seed=1)
    own = ["--encoder", f"image={OWN}", "--head", "lp_plus_plus"]
    adapt = ["adapt", *own, "--set", "head.steps=20", "--support", "colours", "--out", "own.model"]
    assert main(adapt) == 0
    assert "own.model: 8 classes from 16 examples" in capsys.readouterr().out

    assert main(["predict", "own.model", "colours", "--out", "labels.csv"]) == 0
    assert "16 of 16 items with a known class" in capsys.readouterr().err
    assert main(["export", "own.model", "--onnx", "--without-encoder", "--out", "own.onnx"]) == 0
    names = ["adapt", "own.model", "--classes", "cat,dog", "--out", "zs.model"]
    assert "learner 'lp_plus_plus' needs examples" in refused(capsys, *names)


def test_a_run_learns_the_weight_of_names_and_its_model_reads_new_names(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours = list(RGB)
    for split, chosen in {"train": colours[:4], "val": colours[4:6], "test": colours[6:]}.items():
        draw(home / "named" / split, {name: RGB[name] for name in chosen}, n=4, seed=1)
    (home / "named.toml").write_text(_RUN)
    options = [f"image.encoder={OWN}", f"class_text.encoder={OWN}"]
    options += ['class_text.prompts=["{} thing"]']
    given = [word for option in options for word in ("--set", option)]
    assert main(["data", "import", "named", *given]) == 0
    assert main(["data", "inspect", "named"]) == 0
    assert "encoder of class_text" in capsys.readouterr().out

    assert main(["submit", "named.toml", "--in-process"]) == 0

    draw(home / "new", {name: RGB[name] for name in ("cyan", "red", "blue")}, n=1, seed=2)
    draw(home / "later", {name: RGB[name] for name in ("cyan", "red", "blue")}, n=3, seed=3)
    assert main(["adapt", "latest", "--support", "new", "--out", "new.model"]) == 0
    capsys.readouterr()
    assert main(["predict", "new.model", "later", "--out", "labels.csv"]) == 0
    assert "9 of 9 items with a known class" in capsys.readouterr().err
    model = metafleet.load_model("new.model", allowed_packages=["ownpair"])
    assert isinstance(model, AdaptedModel) and model.support is not None
    assert float(model.learned.state.params["text.mix"]) != 0.0  # a weight other than 0.5
    texts = ClassTexts(OWN, ("{} thing",)).embed(["blue", "cyan", "red"])
    np.testing.assert_allclose(model.support.inputs["class_text"], texts, rtol=1e-6)


def test_a_run_refuses_names_of_another_encoder(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(home / "named" / "train", RGB, n=4, seed=1)
    draw(home / "named" / "test", {"pink": (250, 150, 150), "black": (0, 0, 0)}, n=4, seed=1)
    encoders = [f"image.encoder={OWN}", "class_text.encoder=ownpair.towers:Other"]
    assert main(["data", "import", "named", "--set", encoders[0], "--set", encoders[1]]) == 0
    (home / "named.toml").write_text(_RUN)

    submit = ["submit", "named.toml", "--in-process", "--set", "validation.every=0"]

    told = refused(capsys, *submit)
    assert "data.class_text.encoder is not the encoder of these items" in told
    learned = ["--set", "model.name=adapter", "--set", "model.modality=image"]
    assert main([*submit, *learned]) == 0


def test_what_does_not_go_with_names_is_one_line(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapt, out = ("adapt", "--encoder", "image=open_clip:clip"), ("--out", "zs.model")
    zero = (*adapt, "--head", "zero_shot", *out)
    assert "give --support FOLDER, or --classes with --head zero_shot" in refused(capsys, *zero)
    both = refused(capsys, *zero, "--classes", "cat,dog", "--support", "pets")
    assert "--classes cat,dog and --support pets: names go without examples" in both
    assert "'cosine_prototypes' needs examples of each class" in last_refused(
        capsys, *adapt, *out, "--classes", "cat,dog"
    )
    assert "prompt='no slot'; expected a line of text with {}" in refused(
        capsys, *zero, "--classes", "cat,dog", "--prompt", "no slot"
    )
    long = "a very long prompt that says far more than the model reads of {}"
    assert f"is too long for encoder 'open_clip:{home}/clip'; shorten the prompt" in last_refused(
        capsys, *zero, "--classes", "cat,dog", "--prompt", long
    )
    assert "--prompt a {} goes with --encoder" in refused(
        capsys, "adapt", "latest", "--prompt", "a {}", "--support", "pets", *out
    )
    for name in ("absent.txt", "x" * 300):
        assert "is neither a file nor several names" in refused(capsys, *zero, "--classes", name)
    (home / "damaged.txt").write_bytes(b"cat\n\xff\n")
    assert "damaged.txt cannot be read as text" in refused(
        capsys, *zero, "--classes", "damaged.txt"
    )
    lite = ("adapt", "--encoder", "image=package:efficientnet-lite0", "--head", "zero_shot", *out)
    assert "no text tower" in refused(capsys, *lite, "--classes", "cat,dog")
    keep = last_refused(capsys, *zero, "--classes", "cat,dog", "--with-encoder")
    assert f"weights of 'open_clip:{home}/clip' cannot be kept" in keep
    assert not (home / "zs.model").exists()


def last_refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the error, after notes on what the model is made of."""
    capsys.readouterr()
    assert main(list(words)) != 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    return said[0]
