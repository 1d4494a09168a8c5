"""Meta-learning on data of many kinds, reproducible to the bit: the learning core.

Needs torch and numpy alone. Everything a program of one process needs is here; the fleet is in the
packages ``contracts``, ``workers``, ``orchestrator`` and ``db``.
"""

from metafleet.episode import (
    META_TEST,
    META_TRAIN,
    META_VAL,
    SPLITS,
    Episode,
    EpisodeShape,
    ExampleSet,
)
from metafleet.errors import ConfigError, DataError, MetafleetError, NumericsError
from metafleet.learners.base import EpisodeMetrics, Learner, MetaGradient
from metafleet.learners.maml import Maml, MamlOptions
from metafleet.learners.nearest_prototype import NearestPrototype, NearestPrototypeOptions
from metafleet.learners.protonet import Protonet, ProtonetOptions
from metafleet.learners.registry import LEARNERS, build_learner
from metafleet.models.base import Model, ModelFactory
from metafleet.models.batch_norm import average_buffers
from metafleet.models.conv4 import Conv4, Conv4Options
from metafleet.models.mlp import Mlp, MlpOptions
from metafleet.models.registry import MODELS, model_factory
from metafleet.params import MetaState, Params, digest, flatten_state, unflatten_state
from metafleet.problem import Problem
from metafleet.reduction import TreeReducer
from metafleet.seeds import CounterRng
from metafleet.summary import Summary, summarise
from metafleet.workload import Workload, WorkloadSpec

__all__ = [
    "LEARNERS",
    "META_TEST",
    "META_TRAIN",
    "META_VAL",
    "MODELS",
    "SPLITS",
    "ConfigError",
    "Conv4",
    "Conv4Options",
    "CounterRng",
    "DataError",
    "Episode",
    "EpisodeMetrics",
    "EpisodeShape",
    "ExampleSet",
    "Learner",
    "Maml",
    "MamlOptions",
    "MetaGradient",
    "MetaState",
    "MetafleetError",
    "Mlp",
    "MlpOptions",
    "Model",
    "ModelFactory",
    "NearestPrototype",
    "NearestPrototypeOptions",
    "NumericsError",
    "Params",
    "Problem",
    "Protonet",
    "ProtonetOptions",
    "Summary",
    "TreeReducer",
    "Workload",
    "WorkloadSpec",
    "average_buffers",
    "build_learner",
    "digest",
    "flatten_state",
    "model_factory",
    "summarise",
    "unflatten_state",
]
