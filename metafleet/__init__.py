"""Bit-reproducible meta-learning on data of many kinds: the learning core.

The core needs only torch and numpy, and contains everything for a single-process program. The fleet
is in ``metafleet.contracts``, ``metafleet.workers``, ``metafleet.orchestrator`` and
``metafleet.db``.

Names are imported on first use, because importing torch takes more than a second, and commands that
only query the database or Redis do not need it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metafleet.data.registry import DATASETS, open_source
    from metafleet.episode import (
        META_TEST,
        META_TRAIN,
        META_VAL,
        SPLITS,
        Episode,
        EpisodeShape,
        ExampleSet,
    )
    from metafleet.episodes.source import EpisodeSource
    from metafleet.errors import ConfigError, DataError, MetafleetError, ModelError, NumericsError
    from metafleet.inference.adapted_model import AdaptedModel
    from metafleet.inference.corrections import correct
    from metafleet.inference.from_encoder import few_shot_model
    from metafleet.inference.items import ReadOptions
    from metafleet.inference.learned_model import LearnedModel
    from metafleet.inference.loading import adapt, load_model
    from metafleet.inference.prediction import Prediction
    from metafleet.learners.base import EpisodeMetrics, Learner, MetaGradient, QueryGradient
    from metafleet.learners.context import EpisodeContext
    from metafleet.learners.episodic import EpisodicLearner
    from metafleet.learners.inner_loop import InnerLoopLearner
    from metafleet.learners.maml import Maml, MamlOptions
    from metafleet.learners.nearest_prototype import NearestPrototype
    from metafleet.learners.protonet import Protonet, ProtonetOptions
    from metafleet.learners.registry import LEARNERS, build_learner
    from metafleet.learners.summary import Summary, summarise
    from metafleet.models.base import Model, ModelFactory
    from metafleet.models.batch_norm import average_buffers
    from metafleet.models.conv4 import Conv4, Conv4Options
    from metafleet.models.mlp import Mlp, MlpOptions
    from metafleet.models.registry import MODELS, model_factory
    from metafleet.orchestrator.client.client import Client as Client  # see _OF_FLEET
    from metafleet.params import MetaState, Params, digest, flatten_state, unflatten_state
    from metafleet.problem import Problem
    from metafleet.reduction import TreeReducer
    from metafleet.script.adapted import Adapted
    from metafleet.script.batch_step import BatchStep
    from metafleet.script.meta_learner import MetaLearner
    from metafleet.script.outer_step import OuterStep
    from metafleet.seeds import CounterRng
    from metafleet.workload import Workload, WorkloadSpec

__all__ = [
    "DATASETS",
    "LEARNERS",
    "META_TEST",
    "META_TRAIN",
    "META_VAL",
    "MODELS",
    "SPLITS",
    "Adapted",
    "AdaptedModel",
    "BatchStep",
    "ConfigError",
    "Conv4",
    "Conv4Options",
    "CounterRng",
    "DataError",
    "Episode",
    "EpisodeContext",
    "EpisodeMetrics",
    "EpisodeShape",
    "EpisodeSource",
    "EpisodicLearner",
    "ExampleSet",
    "InnerLoopLearner",
    "LearnedModel",
    "Learner",
    "Maml",
    "MamlOptions",
    "MetaGradient",
    "MetaLearner",
    "MetaState",
    "MetafleetError",
    "Mlp",
    "MlpOptions",
    "Model",
    "ModelError",
    "ModelFactory",
    "NearestPrototype",
    "NumericsError",
    "OuterStep",
    "Params",
    "Prediction",
    "Problem",
    "Protonet",
    "ProtonetOptions",
    "QueryGradient",
    "ReadOptions",
    "Summary",
    "TreeReducer",
    "Workload",
    "WorkloadSpec",
    "adapt",
    "average_buffers",
    "build_learner",
    "correct",
    "digest",
    "few_shot_model",
    "flatten_state",
    "load_model",
    "model_factory",
    "open_source",
    "summarise",
    "unflatten_state",
]

_NAMES = {
    "metafleet.data.registry": ("DATASETS", "open_source"),
    "metafleet.episode": (
        "Episode",
        "EpisodeShape",
        "ExampleSet",
        "META_TEST",
        "META_TRAIN",
        "META_VAL",
        "SPLITS",
    ),
    "metafleet.errors": (
        "ConfigError",
        "DataError",
        "MetafleetError",
        "ModelError",
        "NumericsError",
    ),
    "metafleet.learners.base": (
        "EpisodeMetrics",
        "Learner",
        "MetaGradient",
        "QueryGradient",
    ),
    "metafleet.learners.maml": (
        "Maml",
        "MamlOptions",
    ),
    "metafleet.learners.context": ("EpisodeContext",),
    "metafleet.learners.episodic": ("EpisodicLearner",),
    "metafleet.learners.inner_loop": ("InnerLoopLearner",),
    "metafleet.learners.nearest_prototype": ("NearestPrototype",),
    "metafleet.learners.protonet": (
        "Protonet",
        "ProtonetOptions",
    ),
    "metafleet.learners.registry": (
        "LEARNERS",
        "build_learner",
    ),
    "metafleet.models.base": (
        "Model",
        "ModelFactory",
    ),
    "metafleet.models.batch_norm": ("average_buffers",),
    "metafleet.models.conv4": (
        "Conv4",
        "Conv4Options",
    ),
    "metafleet.models.mlp": (
        "Mlp",
        "MlpOptions",
    ),
    "metafleet.models.registry": (
        "MODELS",
        "model_factory",
    ),
    "metafleet.params": (
        "MetaState",
        "Params",
        "digest",
        "flatten_state",
        "unflatten_state",
    ),
    "metafleet.problem": ("Problem",),
    "metafleet.reduction": ("TreeReducer",),
    "metafleet.episodes.source": ("EpisodeSource",),
    "metafleet.script.adapted": ("Adapted",),
    "metafleet.script.batch_step": ("BatchStep",),
    "metafleet.script.meta_learner": ("MetaLearner",),
    "metafleet.script.outer_step": ("OuterStep",),
    "metafleet.seeds": ("CounterRng",),
    "metafleet.learners.summary": (
        "Summary",
        "summarise",
    ),
    "metafleet.inference.adapted_model": ("AdaptedModel",),
    "metafleet.inference.corrections": ("correct",),
    "metafleet.inference.from_encoder": ("few_shot_model",),
    "metafleet.inference.items": ("ReadOptions",),
    "metafleet.inference.learned_model": ("LearnedModel",),
    "metafleet.inference.loading": ("adapt", "load_model"),
    "metafleet.inference.prediction": ("Prediction",),
    "metafleet.workload": (
        "Workload",
        "WorkloadSpec",
    ),
}
_OF_FLEET = {"Client": "metafleet.orchestrator.client.client"}
"""Public names that need the extra ``fleet``, so that ``import *`` leaves them out."""
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names} | _OF_FLEET


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_MODULE_OF[name])
    except ModuleNotFoundError as error:
        if name not in _OF_FLEET:
            raise
        raise ImportError(
            f"metafleet.{name} needs {error.name}; pip install 'metafleet[fleet]'"
        ) from error
    value = getattr(module, name)
    globals()[name] = value
    return value
