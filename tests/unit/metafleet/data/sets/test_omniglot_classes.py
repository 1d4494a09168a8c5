import hashlib

import numpy as np
import pytest

from metafleet.data.sets.omniglot_classes import CHARACTERS, alphabet_of, split_characters
from tests.shared_data import shared_data

NPZ = "omniglot_28x28_strokes64.npz"
SIZES = {
    "vinyals": (1028, 172, 423),
    "lake": (828, 136, 659),
    "maml_random": (1100, 100, 423),
}
HASHES = {
    "vinyals": "51ec019597ae82f18251b10e5331031305158bb8cbec8ff2c1ac47f3373bdb82",
    "lake": "f1299133f7fe79d512bb4d93e0060f964ef9a3d2dd93165061a9f293107c53d9",
    "maml_random": "7114e0d1bca82403d3bb3484af2a1450fb50f1fec0719bde052d09fd0a005095",
}


def hash_split(splits: dict[str, list[str]]) -> str:
    lines = [f"{split}\0{name}\n" for split in sorted(splits) for name in splits[split]]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("name", SIZES)
def test_splits_are_disjoint_and_complete_and_never_change(name):
    splits = split_characters(name, seed=0)

    assert tuple(len(splits[s]) for s in ("meta_train", "meta_val", "meta_test")) == SIZES[name]
    assert sorted(c for names in splits.values() for c in names) == sorted(CHARACTERS)
    assert hash_split(splits) == HASHES[name]


@pytest.mark.parametrize("name", ["lake", "vinyals"])
def test_validation_has_whole_alphabets(name):
    splits = split_characters(name, seed=0)
    val = {alphabet_of(c) for c in splits["meta_val"]}

    assert len(val) == 5
    assert val.isdisjoint(alphabet_of(c) for c in splits["meta_train"] + splits["meta_test"])


def test_the_seed_matters_to_the_random_split_alone():
    assert split_characters("maml_random", 1) == split_characters("maml_random", 1)
    assert split_characters("maml_random", 1) != split_characters("maml_random", 2)
    assert split_characters("vinyals", 1) == split_characters("vinyals", 2)


def test_the_characters_and_the_vinyals_split_are_the_published_ones():
    with np.load(shared_data("omniglot", NPZ), allow_pickle=False) as npz:
        names = [str(name) for name in npz["character_names"]]
        published = npz["split_vinyals"]
        evaluation = npz["evaluation"][::20]

    assert list(CHARACTERS) == names
    splits = split_characters("vinyals", 0)
    for code, split in enumerate(("meta_train", "meta_val", "meta_test")):
        assert splits[split] == [n for n, s in zip(names, published, strict=True) if s == code]
    lake = split_characters("lake", 0)["meta_test"]
    assert lake == [n for n, e in zip(names, evaluation, strict=True) if e]
