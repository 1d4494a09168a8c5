"""The 1,623 characters of Omniglot in canonical order, and their named splits.

In canonical order, the background set comes before the evaluation set. Within each set, alphabets
and then characters are sorted by name. A character is named "Alphabet/characterNN", with NN
starting at 01.

Splits:

- ``vinyals``: 1,028 characters for training, 172 for validation and 423 for testing, as published
  with Vinyals et al. 2016 (arXiv:1606.04080) and used by Snell et al. 2017 (arXiv:1703.05175). The
  last 423 characters in canonical order are for testing. Validation has five alphabets, and
  training has all other characters.
- ``lake``: the official division (Lake et al. 2015, doi:10.1126/science.aab3050). Testing is the
  evaluation set of 659 characters. The official division has no validation set. Here, validation
  has the 136 characters of the five alphabets in the official small set ``background_small1``, and
  training has the other 828 characters.
- ``maml_random``: 1,100 characters for training, 100 for validation and 423 for testing, as in Finn
  et al. 2017 (arXiv:1703.03400). The characters are drawn at random with a seed, regardless of
  their alphabets.
- ``small``: the 242 characters of the official small sets, for which both the images and the paths
  of the pen are published. Training has 114 characters of four alphabets, validation has 22 (Early
  Aramaic), and testing has 106 of three alphabets.

Alphabet names and counts: Omniglot, MIT licence, Copyright (c) 2015 Brenden Lake.
"""

from collections.abc import Mapping

from metafleet.episode import META_TEST, META_TRAIN, META_VAL
from metafleet.seeds import CounterRng

N_DRAWERS = 20
BACKGROUND: Mapping[str, int] = {
    "Alphabet_of_the_Magi": 20,
    "Anglo-Saxon_Futhorc": 29,
    "Arcadian": 26,
    "Armenian": 41,
    "Asomtavruli_(Georgian)": 40,
    "Balinese": 24,
    "Bengali": 46,
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
    "Braille": 26,
    "Burmese_(Myanmar)": 34,
    "Cyrillic": 33,
    "Early_Aramaic": 22,
    "Futurama": 26,
    "Grantha": 43,
    "Greek": 24,
    "Gujarati": 48,
    "Hebrew": 22,
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
    "Japanese_(hiragana)": 52,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Malay_(Jawi_-_Arabic)": 40,
    "Mkhedruli_(Georgian)": 41,
    "N_Ko": 33,
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
    "Sanskrit": 42,
    "Syriac_(Estrangelo)": 23,
    "Tagalog": 17,
    "Tifinagh": 55,
}
EVALUATION: Mapping[str, int] = {
    "Angelic": 20,
    "Atemayar_Qelisayer": 26,
    "Atlantean": 26,
    "Aurek-Besh": 26,
    "Avesta": 26,
    "Ge_ez": 26,
    "Glagolitic": 45,
    "Gurmukhi": 45,
    "Kannada": 41,
    "Keble": 26,
    "Malayalam": 47,
    "Manipuri": 40,
    "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45,
    "Oriya": 46,
    "Sylheti": 28,
    "Syriac_(Serto)": 23,
    "Tengwar": 25,
    "Tibetan": 42,
    "ULOG": 26,
}
_VINYALS_VAL = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
_BACKGROUND_SMALL1 = ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin")
_SMALL_VAL = ("Early_Aramaic",)
_SMALL_TEST = ("Japanese_(katakana)", "Sanskrit", "Tagalog")
_N_VINYALS_TEST = 423
_MAML_SIZES = ((META_TRAIN, 1100), (META_VAL, 100), (META_TEST, 423))


def _names(alphabets: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{a}/character{i:02d}" for a, n in alphabets.items() for i in range(1, n + 1))


CHARACTERS: tuple[str, ...] = _names(BACKGROUND) + _names(EVALUATION)


def alphabet_of(character: str) -> str:
    """Return the alphabet of "Alphabet/characterNN"."""
    return character.split("/", 1)[0]


def split_characters(split: str, seed: int) -> dict[str, list[str]]:
    """Return split -> characters; only "maml_random" depends on ``seed``."""
    if split == "maml_random":
        return _maml_random(seed)
    if split == "small":
        return _small()
    if split == "lake":
        test = set(_names(EVALUATION))
        val_alphabets = _BACKGROUND_SMALL1
    else:
        test = set(CHARACTERS[-_N_VINYALS_TEST:])
        val_alphabets = _VINYALS_VAL
    val = {name for name in CHARACTERS if alphabet_of(name) in val_alphabets}
    return {
        META_TRAIN: [name for name in CHARACTERS if name not in test and name not in val],
        META_VAL: [name for name in CHARACTERS if name in val],
        META_TEST: [name for name in CHARACTERS if name in test],
    }


def _small() -> dict[str, list[str]]:
    train = [alphabet for alphabet in _BACKGROUND_SMALL1 if alphabet not in _SMALL_VAL]
    alphabets = {META_TRAIN: train, META_VAL: _SMALL_VAL, META_TEST: _SMALL_TEST}
    return {
        split: [name for name in CHARACTERS if alphabet_of(name) in names]
        for split, names in alphabets.items()
    }


def _maml_random(seed: int) -> dict[str, list[str]]:
    shuffled = CounterRng(seed, "maml_random").sample(len(CHARACTERS), len(CHARACTERS))
    splits = {}
    start = 0
    for split, size in _MAML_SIZES:
        splits[split] = [CHARACTERS[i] for i in sorted(shuffled[start : start + size])]
        start += size
    return splits
