"""Omniglot next to a development checkout."""

import json
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from metafleet.data.prepared.download import RemoteFile, hash_file
from metafleet.data.registry import open_data, open_source
from metafleet.data.sets import omniglot
from metafleet.data.sets.omniglot_classes import CHARACTERS
from metafleet.data.sets.omniglot_decoding import decode_strokes
from metafleet.data.strokes import rotate
from metafleet.episode import EpisodeShape
from metafleet.errors import DataMissingError
from metafleet.seeds import CounterRng
from tests.shared_data import shared_data

NPZ = "omniglot_28x28_strokes64.npz"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("omniglot")


def options(root: str = NPZ, **more):
    return {"name": "omniglot", "root": str(shared_data("omniglot", root)), **more}


def test_the_zips_and_the_npz_hold_the_same_pixels(data_dir):
    from_npz, from_zips = (
        open_data(options(), data_dir).prepare(),
        open_data(options("rebuilt"), data_dir).prepare(),
    )

    assert from_npz.path != from_zips.path
    assert from_npz.arrays == from_zips.arrays
    assert (
        open_data(options(), data_dir).digest() == open_data(options("rebuilt"), data_dir).digest()
    )
    assert from_zips.facts["pixels are the official ones"] == "yes"


def test_the_counts_are_the_published_ones(data_dir):
    summary = open_data(options(modalities=["image", "stroke"]), data_dir).summarise()

    counts = {split: (s.classes, s.items) for split, s in summary.splits.items()}
    assert counts == {
        "meta_train": (1028, 20560),
        "meta_val": (172, 3440),
        "meta_test": (423, 8460),
    }
    assert summary.modalities["image"].items == 32460
    assert summary.modalities["stroke"].items == 29605
    json.dumps(dict(summary.facts))


def test_rotated_characters_are_classes_of_their_own(data_dir):
    plain = open_data(options(modalities=["image", "stroke"]), data_dir).prepare()
    turned = open_data(options(modalities=["image", "stroke"], rotations=True), data_dir).prepare()
    source = open_source(options(rotations=True), data_dir)

    sizes = [source.n_classes(s) for s in ("meta_train", "meta_val", "meta_test")]
    assert sizes == [4112, 688, 1692]
    images, strokes = plain.load("image"), plain.load("stroke")
    by_class = turned.load("image").reshape(1623, 4, 20, 28, 28)
    paths = turned.load("stroke").reshape(1623, 4, 20, 64, 3)
    for character in (0, 700, 1622):
        rows = slice(20 * character, 20 * character + 20)
        for turn in range(4):
            assert turned.classes[4 * character + turn].name.endswith(f"@{90 * turn}") or turn == 0
            expected = np.rot90(images[rows], turn, axes=(1, 2))
            np.testing.assert_array_equal(by_class[character, turn], expected)
            np.testing.assert_array_equal(paths[character, turn], rotate(strokes[rows], turn))


def test_prepared_data_outlive_their_original(data_dir):
    digest = open_data(options(), data_dir).digest()

    gone = {"name": "omniglot", "root": "/no/such/place"}
    assert (
        open_data(gone, data_dir).digest()
        == open_data({"name": "omniglot"}, data_dir).digest()
        == digest
    )
    with pytest.raises(DataMissingError, match="it is not there"):  # on the user's own machine
        open_data(gone, data_dir).prepare()


def test_downloading_ends_with_the_same_data(tmp_path, monkeypatch):
    folder = shared_data("omniglot", "rebuilt")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        files = tuple(
            RemoteFile(p.name, f"{url}/{p.name}", p.stat().st_size, hash_file(p))
            for p in sorted(folder.glob("images_*.zip"))
        )
        monkeypatch.setattr(omniglot, "IMAGE_FILES", files)
        stages = set()
        prepared = open_data({"name": "omniglot"}, tmp_path).prepare(
            lambda stage, *_: stages.add(stage)
        )
        server.shutdown()
        thread.join()

    assert prepared.facts["pixels are the official ones"] == "yes"
    assert stages == {*(f"downloading {remote.name}" for remote in files), "reading drawings"}
    assert open_source({"name": "omniglot"}, tmp_path).n_classes("meta_test") == 423


def test_splits_have_digests_of_their_own(data_dir):
    digests = {
        open_data(options(**choice), data_dir).digest()
        for choice in (
            {"split": "vinyals"},
            {"split": "lake"},
            {"split": "maml_random"},
            {"split": "maml_random", "split_seed": 1},
            {"rotations": True},
            {"modalities": ["stroke"]},
        )
    }

    assert len(digests) == 6


def test_missing_strokes_are_zeros_and_none_is_not_a_number(data_dir):
    source = open_source(options(modalities=["stroke"]), data_dir)
    shape = EpisodeShape(20, 5, 15)
    source.check("meta_test", shape)

    strokes = source.sample("meta_test", shape, CounterRng(1, "meta_test")).query.inputs["stroke"]

    assert strokes.isfinite().all()
    missing = ~strokes.flatten(1).any(dim=1)
    assert 0 < missing.sum() < 60
    assert (strokes[~missing][:, -1, 2] == 1).all()


def test_official_strokes_agree_with_the_prepared_ones():
    path = shared_data("omniglot", "original", "strokes_background_small1.zip")
    with np.load(shared_data("omniglot", NPZ), allow_pickle=False) as npz:
        strokes = npz["strokes"]
    distances = []
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.endswith(".txt") and "MACOSX" not in n]
        for name in names[::40]:
            *_, alphabet, character, file = name.split("/")
            drawing = (f"{alphabet}/{character}", int(file.split("_")[1].removesuffix(".txt")))
            ours = decode_strokes(drawing, lambda name=name: archive.read(name))
            theirs = strokes[CHARACTERS.index(drawing[0]) * 20 + drawing[1] - 1].astype(np.float64)
            gaps = np.linalg.norm(ours[:, None, :2] - theirs[None, :, :2], axis=2)
            distances.append(max(gaps.min(axis=0).mean(), gaps.min(axis=1).mean()))

    assert len(distances) > 60
    assert max(distances) < 0.03  # points are shared out to strokes a little differently
