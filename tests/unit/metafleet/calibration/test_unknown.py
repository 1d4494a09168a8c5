"""Items of none of the classes."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from metafleet.calibration.unknown import KEPT, SCORES, auroc, choose_rule


@pytest.mark.parametrize("digits", [0, 1, 12])
def test_the_area_is_that_of_scikit_learn_ties_included(digits: int) -> None:
    generator = torch.Generator().manual_seed(1)
    known = (torch.randn(300, generator=generator) + 0.7).round(decimals=digits)
    unknown = torch.randn(200, generator=generator).round(decimals=digits)

    expected = roc_auc_score([1] * 300 + [0] * 200, torch.cat([known, unknown]).numpy())

    assert auroc(known, unknown) == pytest.approx(expected, abs=1e-6)


def test_the_score_that_tells_best_is_chosen() -> None:
    # distances tell, shares do not: the unknown are far from both classes alike
    known = torch.tensor([[-1.0, -3.0], [-3.0, -1.1], [-0.9, -2.9]]).repeat(20, 1)
    far = known - 50.0
    # shares tell, distances do not: the unknown are between the classes
    between = torch.tensor([[-1.0, -1.0]]).repeat(60, 1)

    assert choose_rule(known, far, 1.0, 2).score != "probability"
    assert choose_rule(known, far, 1.0, 2).auroc == 1.0
    assert choose_rule(known, between, 1.0, 2).score == "probability"


@pytest.mark.parametrize("temperature", [1.0, 9.0])
def test_a_rule_keeps_the_share_of_known_items_that_it_says(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    known = 3 * torch.randn(1000, 5, generator=generator)
    unknown = torch.randn(800, 5, generator=generator)

    rule = choose_rule(known, unknown, temperature, 4)

    assert float((~rule.is_unknown(known, temperature)).double().mean()) == KEPT
    assert rule.n_unknown == 4
    assert 0.5 < rule.auroc < 1.0


def test_scores_are_the_formulas_of_their_papers() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.float64)
    total = sum(torch.exp(logits[0]).tolist())

    assert float(SCORES["probability"](logits)) == pytest.approx(
        float(torch.exp(logits[0, 1])) / total
    )
    assert float(SCORES["logit"](logits)) == 3.0
    assert float(SCORES["energy"](logits)) == pytest.approx(torch.tensor(total).log().item())
