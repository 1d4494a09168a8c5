"""Omniglot as torchvision and its authors store it: <part>/<Alphabet>/character<NN>/*.png.

A class is "Alphabet/characterNN". The classes in images_background are for training, and the
classes in images_evaluation are for testing. The data set ``omniglot`` reads the same folder with
the splits of the literature.
"""

from metafleet.data.importing.item import Item
from metafleet.data.importing.layouts.class_folders import read_class
from metafleet.data.importing.layouts.walking import files_below, folders_in
from metafleet.data.importing.problems import ProblemLog
from metafleet.data.importing.reader import Found, Place
from metafleet.episode import META_TEST, META_TRAIN

OMNIGLOT_PARTS = {"images_background": META_TRAIN, "images_evaluation": META_TEST}
TORCHVISION_FOLDER = "omniglot-py"


def read_omniglot(place: Place, log: ProblemLog) -> Found:
    """Read both parts, or the one that exists."""
    base = ""
    if TORCHVISION_FOLDER in folders_in(place.folder):
        base = f"{TORCHVISION_FOLDER}/"
    items: list[Item] = []
    for part, split in OMNIGLOT_PARTS.items():
        for alphabet in folders_in(place.folder / base / part):
            for character in folders_in(place.folder / base / part / alphabet):
                files = files_below(place.folder, f"{base}{part}/{alphabet}/{character}", log)
                label = f"{alphabet}/{character}"
                items += list(
                    read_class(files, place, log, label=label, split=split, group=alphabet)
                )
    return Found(items, ['`name = "omniglot"` with root reads this with the literature\'s splits'])
