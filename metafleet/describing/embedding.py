"""The embedding of a data set: a few numbers from the features of a pretrained encoder.

It has the same length for every encoder, and only embeddings by the same encoder are comparable.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from metafleet.describing.episodes import Sample
from metafleet.episode import presence_key

_PROJECTED: Final = 16
LENGTH: Final = 2 * _PROJECTED + 4
"""Length of an embedding."""
Matrix = npt.NDArray[np.float64]


def embed(sample: Sample, modality: str) -> tuple[float, ...] | None:
    """Return the embedding of a sample's items; None if no item has the modality.

    Features are scaled to length 1. The embedding is: a random projection of their mean, 16
    numbers, and of their standard deviation, 16 numbers; the length of the mean; the variance
    within classes and the variance between the prototypes of an episode, both as means over
    episodes; and the number of dimensions in which the features vary (participation ratio),
    divided by the number of features.
    """
    rows, within, between = [], [], []
    for episode in sample.episodes([modality]):
        for part in (episode.support, episode.query):
            if modality not in part.inputs:
                continue
            mask = part.inputs.get(presence_key(modality))
            values = part.inputs[modality].flatten(1).double().numpy()
            classes = part.targets.numpy()
            if mask is not None:
                values, classes = values[mask.numpy() > 0], classes[mask.numpy() > 0]
            if len(values):
                unit = _unit(values)
                rows.append(unit)
                inner, outer = _variances(unit, classes)
                within.append(inner)
                between.append(outer)
    if not rows:
        return None
    features = np.concatenate(rows)
    mean, spread = features.mean(axis=0), features.std(axis=0)
    project = _projection(features.shape[1])
    numbers: list[float] = [
        *(mean @ project),
        *(spread @ project),
        float(np.linalg.norm(mean)),
        float(np.mean(within)),
        float(np.mean(between)),
        _dimensions(features - mean),
    ]
    return tuple(round(float(number), 6) for number in numbers)


def _unit(values: Matrix) -> Matrix:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    found: Matrix = values / np.where(lengths > 0, lengths, 1.0)
    return found


def _variances(values: Matrix, classes: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the variance within classes, and that of the class means."""
    names = np.unique(classes, axis=0)
    if classes.ndim > 1:
        return float(values.var(axis=0).sum()), 0.0
    means = np.stack([values[classes == name].mean(axis=0) for name in names])
    own = means[np.searchsorted(names, classes)]
    within = float(np.square(values - own).sum(axis=1).mean())
    return within, float(means.var(axis=0).sum())


def _projection(n_features: int) -> Matrix:
    """Return a fixed random matrix [features, 16]; the old generator never changes its numbers."""
    drawn = np.random.RandomState(n_features).standard_normal((n_features, _PROJECTED))
    return drawn


def _dimensions(centred: Matrix) -> float:
    eigenvalues = np.linalg.eigvalsh(centred.T @ centred)
    total = float(np.square(eigenvalues).sum())
    if total == 0.0:
        return 0.0
    varied: float = float(eigenvalues.sum()) ** 2 / total / centred.shape[1]
    return varied
