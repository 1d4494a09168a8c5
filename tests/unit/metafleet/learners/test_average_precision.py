"""Average precision against scikit-learn's."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from metafleet.learners.average_precision import average_precision, mean_average_precision


@pytest.mark.parametrize("n_levels", [3, 10, 10**6], ids=["many ties", "some ties", "no ties"])
@pytest.mark.parametrize("seed", range(8))
def test_it_is_that_of_scikit_learn(seed: int, n_levels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(n_levels, (25, 4), generator=generator).float()
    targets = (torch.rand(25, 4, generator=generator) < 0.3).float()
    targets[0] = 1.0

    expected = [average_precision_score(targets[:, k], scores[:, k]) for k in range(4)]

    found = [average_precision(scores[:, k], targets[:, k] > 0) for k in range(4)]
    assert found == pytest.approx(expected, abs=1e-12)
    assert mean_average_precision(scores, targets) == pytest.approx(sum(expected) / 4, abs=1e-12)


def test_labels_that_no_item_has_do_not_count() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.7], [0.5, 0.3]])
    targets = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])

    assert mean_average_precision(scores, targets) == pytest.approx(1 / 3)
    assert mean_average_precision(scores, torch.zeros(3, 2)) == 0.0
