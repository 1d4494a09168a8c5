"""FSDD, CLINC150 and concepts next to a development checkout."""

import io
import itertools
import json
import shutil
import tarfile
import threading
from collections import Counter
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from metafleet.data.registry import open_data, open_source
from metafleet.data.sets import clinc150, concepts, fsdd
from metafleet.data.sets.concepts_manifest import read_manifest
from metafleet.data.sets.fsdd_files import SPEAKERS
from metafleet.episode import EpisodeShape
from metafleet.errors import ConfigError, DataCorruptError, DataMissingError
from metafleet.seeds import CounterRng
from tests.shared_data import shared_data

SHAPE = EpisodeShape(5, 1, 2)
VENDORS = ("noto", "twemoji", "openmoji", "fluent")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("sets")


def options(name: str, **more):
    return {"name": name, "root": str(shared_data(name)), **more}


def sizes(name: str, data_dir, **more) -> dict[str, tuple[int, int]]:
    splits = open_data(options(name, **more), data_dir).summarise().splits
    return {split: (holds.classes, holds.items) for split, holds in splits.items()}


def sample(chosen, data_dir, split: str = "meta_test", shape: EpisodeShape = SHAPE):
    source = open_source(chosen, data_dir)
    source.check(split, shape)
    return source.sample(split, shape, CounterRng(1, split))


# CLINC150


def test_clinc150_is_split_by_domain(data_dir):
    summary = open_data(options("clinc150"), data_dir).summarise()

    assert sizes("clinc150", data_dir) == {
        "meta_train": (90, 13500),
        "meta_val": (30, 4500),
        "meta_test": (30, 4500),
    }
    assert summary.facts["sha256 of the original is the published one"] == "yes"
    assert set(summary.splits["meta_test"].groups) == {"small_talk", "meta"}
    moved = options("clinc150", val_domains=["work"], test_domains=["banking", "travel"])
    assert set(open_data(moved, data_dir).summarise().splits["meta_test"].groups) == {
        "banking",
        "travel",
    }
    assert open_data(moved, data_dir).digest() != open_data(options("clinc150"), data_dir).digest()


def test_clinc150_gives_the_queries_of_an_intent(data_dir):
    whole = json.loads(shared_data("clinc150", "data", "data_full.json").read_text())
    intent_of = {
        query: intent for part in ("train", "val", "test") for query, intent in whole[part]
    }

    drawn = sample(options("clinc150"), data_dir)

    texts = [
        bytes(row.numpy().astype(np.uint8)).rstrip(b"\0").decode()
        for row in drawn.support.inputs["text"]
    ]
    intents = [intent_of[text] for text in texts]
    assert len(set(intents)) == 5
    queries = drawn.query.inputs["text"].numpy().astype(np.uint8)
    for row, target in zip(queries, drawn.query.targets.tolist(), strict=True):
        assert intent_of[bytes(row).rstrip(b"\0").decode()] == intents[target]


def test_prepared_data_serve_a_host_without_the_original(data_dir):
    here = {name: open_data(options(name), data_dir).digest() for name in ("clinc150", "concepts")}
    for name, digest in here.items():
        assert open_data({"name": name, "root": "/no/such/place"}, data_dir).digest() == digest
        assert open_data({"name": name}, data_dir).digest() == digest
        with pytest.raises(DataMissingError, match="it is not there"):
            open_data({"name": name, "root": "/no/such/place"}, data_dir).prepare()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serve the folder tmp_path/served; return its address."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_clinc150_is_downloaded(tmp_path, server, monkeypatch, data_dir):
    shutil.copy(shared_data("clinc150", "data", "data_full.json"), tmp_path / "served" / "full")
    monkeypatch.setattr(clinc150, "REMOTE", replace(clinc150.REMOTE, url=server + "full"))
    assert not open_data({"name": "clinc150"}, tmp_path).is_ready()

    open_data({"name": "clinc150"}, tmp_path).prepare()

    mine = open_data({"name": "clinc150"}, tmp_path).digest()
    assert mine == open_data(options("clinc150"), data_dir).digest()


def test_a_file_that_is_not_clinc150_is_named(tmp_path):
    whole = json.loads(shared_data("clinc150", "data", "data_full.json").read_text())
    for change in ({"train": whole["train"][1:]}, {"val": 7}, {"test": [["a", "b"]]}):
        path = tmp_path / "data_full.json"
        path.write_text(json.dumps(whole | change))
        with pytest.raises(DataCorruptError, match="cannot be read as CLINC150") as caught:
            open_data({"name": "clinc150", "root": str(tmp_path)}, tmp_path).prepare()
        assert "\n" not in str(caught.value)


# FSDD


def test_fsdd_leaves_speakers_out(data_dir):
    assert sizes("fsdd", data_dir) == {
        "meta_train": (10, 1500),
        "meta_val": (10, 500),
        "meta_test": (10, 1000),
    }
    groups = open_data(options("fsdd"), data_dir).summarise().splits
    speakers = [name for holds in groups.values() for g in holds.groups for name in g.split(", ")]
    assert sorted(speakers) == sorted(SPEAKERS)
    with pytest.raises(ConfigError, match="test_speakers"):
        open_data(options("fsdd", val_speakers=["theo"]), data_dir).prepare()


def test_fsdd_sounds_and_written_digits_are_of_one_class(data_dir):
    digits = shared_data("fsdd", "mnist10k_28x28.npz")
    chosen = options("fsdd", modalities=["audio", "image"], digits=str(digits))
    prepared = open_data(chosen, data_dir).prepare()
    open_data(chosen, data_dir).verify()

    with np.load(digits, allow_pickle=False) as npz:
        digit_of = {image.tobytes(): int(label) for image, label in zip(*npz.values(), strict=True)}
    images = prepared.load("image")
    start = 0
    for info in prepared.classes:
        rows = images[start : start + info.n_items]
        found = {digit_of[row.tobytes()] for row in rows}
        assert len(found) == 1 and info.name.startswith(fsdd._WORDS[found.pop()])
        assert len({row.tobytes() for row in rows}) == info.n_items  # none written twice
        start += info.n_items
    drawn = sample(chosen, data_dir)
    assert {name: tuple(v.shape) for name, v in drawn.support.inputs.items()} == {
        "audio": (5, 40, 49),
        "image": (5, 1, 28, 28),
    }
    assert drawn.support.inputs["audio"].std() > 0.1


def test_fsdd_without_written_digits_says_what_to_set(data_dir):
    with pytest.raises(DataMissingError, match=r"set data\.digits"):
        open_data(options("fsdd", modalities=["image"]), data_dir).prepare()


def test_fsdd_is_downloaded_and_checked_inside(tmp_path, server, monkeypatch, data_dir):
    archive = tmp_path / "served" / "archive"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(shared_data("fsdd", "recordings"), "free-spoken-digit-dataset-1/recordings")
        escape = tarfile.TarInfo("../../escaped.wav")
        tar.addfile(escape, io.BytesIO())
    remote = replace(fsdd.ARCHIVE, url=server + "archive")
    monkeypatch.setattr(fsdd, "ARCHIVE", remote)

    open_data({"name": "fsdd"}, tmp_path).prepare()

    assert (
        open_data({"name": "fsdd"}, tmp_path).digest()
        == open_data(options("fsdd"), data_dir).digest()
    )
    assert not list(tmp_path.rglob("escaped.wav"))


def test_an_archive_of_other_recordings_is_refused(tmp_path, server, monkeypatch):
    with tarfile.open(tmp_path / "served" / "archive", "w:gz") as tar:
        for number, path in enumerate(sorted(shared_data("fsdd", "recordings").iterdir())):
            data = path.read_bytes() if number else b"RIFF"
            member = tarfile.TarInfo(f"x/recordings/{path.name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(fsdd, "ARCHIVE", replace(fsdd.ARCHIVE, url=server + "archive"))

    with pytest.raises(DataCorruptError, match="differ from the published ones"):
        open_data({"name": "fsdd"}, tmp_path).prepare()

    assert sorted(path.name for path in (tmp_path / "fsdd").iterdir()) == [
        f".{fsdd.ARCHIVE.name}.lock"
    ]


# concepts


def test_concepts_are_split_as_published(data_dir):
    assert sizes("concepts", data_dir) == {  # pictures; three concepts have no fourth
        "meta_train": (179, 714),
        "meta_val": (44, 175),
        "meta_test": (56, 224),
    }


def test_renderings_of_a_concept_share_no_file_and_keep_their_gaps(data_dir):
    every = ["image", "text", "audio", "video"]
    chosen = options("concepts", modalities=every)
    prepared = open_data(chosen, data_dir).prepare()
    counts = {modality: info.n_present for modality, info in prepared.arrays.items()}

    assert counts == {"image": 1113, "text": 1395, "audio": 984, "video": 146}
    assert not any(prepared.load("video")[~prepared.load_mask("video")].any(axis=(1, 2, 3, 4)))
    frog = [info.name for info in prepared.classes].index("frog")
    rows = slice(5 * frog, 5 * frog + 5)
    texts = [bytes(row).rstrip(b"\0").decode() for row in prepared.load("text")[rows]]
    assert texts[0] == "frog" and len(set(texts)) > 3
    with Image.open(shared_data("concepts", "images", "twemoji", "frog.png")) as image:
        paper = Image.new("RGBA", image.size, "white")
        flat = Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
        expected = np.asarray(flat.resize((32, 32), Image.Resampling.BILINEAR))
    pictures = prepared.load("image")[rows].transpose(0, 2, 3, 1)
    assert [np.array_equal(picture, expected) for picture in pictures].count(True) == 1


def test_no_language_goes_with_one_vendor():
    """Else a picture's style would rule out all classes heard in its language."""
    manifest = read_manifest(shared_data("concepts", "manifest.csv"))

    orders = Counter(concepts.order_of_vendors(concept, VENDORS) for concept in manifest)

    assert orders.keys() == set(itertools.permutations(VENDORS))
    for place, vendor in itertools.product(range(4), VENDORS):
        n = sum(count for order, count in orders.items() if order[place] == vendor)
        assert abs(n - 279 / 4) < 4 * (279 * 3 / 16) ** 0.5


@pytest.mark.parametrize(("modality", "n_items"), [("text", 1395), ("video", 146)])
def test_renderings_without_the_modality_are_not_drawn(modality, n_items, data_dir):
    chosen = options("concepts", modalities=[modality])

    holds = sizes("concepts", data_dir, modalities=[modality])

    assert sum(items for _, items in holds.values()) == n_items
    if modality != "video":
        drawn = sample(chosen, data_dir, shape=EpisodeShape(5, 1, 1))
        assert list(drawn.support.inputs) == [modality]
        assert drawn.support.inputs[modality].flatten(1).any(dim=1).all()


def test_voices_may_be_left_out(data_dir):
    chosen = options("concepts", modalities=["audio"], voices=["gd"])

    assert open_data(chosen, data_dir).prepare().arrays["audio"].n_present == 134
    with pytest.raises(ConfigError, match="voices"):
        open_data(options("concepts", modalities=["audio"], languages=["it"]), data_dir).prepare()


def test_subgroups_are_classes_of_whole_concepts(data_dir):
    chosen = options("concepts", classes="subgroup", modalities=["image", "text"])
    summary = open_data(chosen, data_dir).summarise()

    assert {split: holds.classes for split, holds in summary.splits.items()} == {
        "meta_train": 8,
        "meta_val": 5,
        "meta_test": 5,
    }
    assert {m: about.items for m, about in summary.modalities.items()} == {
        "image": 201,
        "text": 201,
    }
    sample(chosen, data_dir, shape=EpisodeShape(5, 1, 4))


def test_a_manifest_that_is_damaged_is_named(tmp_path):
    text = shared_data("concepts", "manifest.csv").read_text(encoding="utf-8")
    head, first = text.splitlines()[:2]
    for broken, message in {
        "": "no concepts",
        "\n".join([head, first, first]): "one twice",
        "\n".join([head, first.replace("train", "dev")]): "dev",
        "\n".join([head, first.replace("images/noto", "../noto")]): "outside the folder",
        "\n".join([head, first]): "alarmclock.* cannot be read",
    }.items():
        (tmp_path / "manifest.csv").write_text(broken, encoding="utf-8")
        with pytest.raises(DataCorruptError, match=message) as caught:
            open_data({"name": "concepts", "root": str(tmp_path)}, tmp_path).prepare()
        assert "\n" not in str(caught.value)
