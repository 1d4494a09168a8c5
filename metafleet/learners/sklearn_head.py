"""Any scikit-learn classifier as the head at adaptation time, on meta-learned embeddings."""

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from metafleet.errors import ConfigError
from metafleet.learners.context import EpisodeContext
from metafleet.learners.metric import MetricLearner
from metafleet.learners.prototypes import prototype_logits
from metafleet.models.base import ModelFactory
from metafleet.options import require
from metafleet.params import Params
from metafleet.problem import Problem
from metafleet.seeds import CounterRng

_SUPPORT = "support"
_TARGETS = "targets"
_RANDOM_STATE = "random_state"
_LEAST_PROBABILITY = 1e-6
"""Lower bound of probabilities: a forest may return 0, whose logarithm is not finite."""


@dataclass(frozen=True, slots=True)
class SklearnHeadOptions:
    """Options of ``SklearnHead``.

    Attributes:
        estimator: the full name of a scikit-learn classifier.
        params: arguments of the classifier, for example ``{"n_neighbors": 1}``.
    """

    estimator: str = "sklearn.linear_model.LogisticRegression"
    params: Mapping[str, bool | int | float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_named = self.estimator.startswith("sklearn.") and self.estimator.count(".") >= 2
        expected = "a classifier of scikit-learn, such as 'sklearn.ensemble.RandomForestClassifier'"
        require(is_named, "estimator", self.estimator, expected)
        require(
            "random_state" not in self.params,
            "params",
            dict(self.params),
            "no random_state: it is drawn for each episode, reproducibly",
        )


class SklearnHead(MetricLearner[SklearnHeadOptions]):
    """Meta-train an embedding as ``Protonet`` does, and evaluate it with a scikit-learn classifier.

    Adaptation fits the classifier to the embedded support set. If the classifier gives
    probabilities, the outputs are their logarithms. If not, the outputs are the values of its
    decision function.
    """

    name: ClassVar[str] = "sklearn_head"
    Options: ClassVar[type] = SklearnHeadOptions
    libraries: ClassVar[tuple[str, ...]] = ("sklearn",)
    """Top-level modules that compute results; their versions are part of a run's fingerprint."""

    @classmethod
    def build(cls, options: SklearnHeadOptions, problem: Problem, make_model: ModelFactory) -> Self:
        """Make the model without a head, and check that the classifier can be made.

        Raises:
            ConfigError: scikit-learn is not installed, or it has no such classifier.
        """
        learner = super().build(options, problem, make_model)
        learner._classifier(random_state=0)
        return learner

    def draw(self, rng: CounterRng, n_support: int, n_query: int) -> Params:
        """Draw the classifier's random_state."""
        return {_RANDOM_STATE: torch.tensor(rng.integer(2**31))}

    def fit(
        self, params: Params, support: Tensor, targets: Tensor, context: EpisodeContext
    ) -> Params:
        """Return the embedded support set, because the fitted classifier is not a tensor."""
        state = {_RANDOM_STATE: context.drawn[_RANDOM_STATE]}
        return {_SUPPORT: support, _TARGETS: targets} | state

    def compare(
        self, params: Params, fitted: Params, query: Tensor, context: EpisodeContext
    ) -> Tensor:
        """Compare with prototypes in meta-training; otherwise fit the classifier and predict."""
        support, targets = fitted[_SUPPORT], fitted[_TARGETS]
        if context.is_training:
            return prototype_logits(support, targets, query, context.n_way)
        classifier = self._classifier(random_state=int(fitted[_RANDOM_STATE]))
        with warnings.catch_warnings():  # most solvers warn if there are few examples
            warnings.simplefilter("ignore")
            classifier.fit(support.cpu().numpy(), targets.cpu().numpy())
            outputs = _scores(classifier, query.cpu().numpy(), context.n_way)
        return outputs.to(query)

    def _classifier(self, *, random_state: int) -> Any:
        options = self.options
        found = _find(options.estimator)
        chance = {"random_state": random_state} if "random_state" in found().get_params() else {}
        try:
            return found(**options.params).set_params(**chance)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"params={dict(options.params)!r}: {error}") from error


def _find(name: str) -> Any:
    """Import a scikit-learn classifier; anything else is an error."""
    try:
        from sklearn.base import ClassifierMixin  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "learner 'sklearn_head' needs scikit-learn; pip install 'metafleet[heads]'"
        ) from error
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        found = None
    if not (isinstance(found, type) and issubclass(found, ClassifierMixin)):
        raise ConfigError(
            f"estimator={name!r} is no classifier of scikit-learn; expected one such as "
            "'sklearn.ensemble.RandomForestClassifier'"
        )
    return found


def _scores(classifier: Any, features: Any, n_way: int) -> Tensor:
    if hasattr(classifier, "predict_proba"):
        shares = torch.as_tensor(classifier.predict_proba(features))
        return shares.clamp(min=_LEAST_PROBABILITY).log()
    scores = torch.as_tensor(classifier.decision_function(features))
    # for two classes there is one score, that of the second
    return torch.stack([-scores, scores], dim=1) if n_way == 2 and scores.dim() == 1 else scores
