"""The available learners, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from metafleet.errors import ConfigError
from metafleet.learners.anil import Anil
from metafleet.learners.anp import Anp
from metafleet.learners.base import Learner, LearnerClass
from metafleet.learners.boil import Boil
from metafleet.learners.cavia import Cavia
from metafleet.learners.cnp import Cnp
from metafleet.learners.cosine_prototypes import CosinePrototypes
from metafleet.learners.imaml import Imaml
from metafleet.learners.linear_heads import Logistic, Ridge
from metafleet.learners.lp_plus_plus import LpPlusPlus
from metafleet.learners.maml import Maml
from metafleet.learners.maml_plus_plus import MamlPlusPlus
from metafleet.learners.mann import Mann
from metafleet.learners.matchingnet import MatchingNet
from metafleet.learners.meta_curvature import MetaCurvature
from metafleet.learners.meta_sgd import MetaSgd
from metafleet.learners.metaoptnet import MetaOptNet
from metafleet.learners.mmaml import Mmaml
from metafleet.learners.multilabel_protonet import MultilabelProtonet
from metafleet.learners.nearest_prototype import NearestPrototype
from metafleet.learners.protomaml import ProtoMaml
from metafleet.learners.protonet import Protonet
from metafleet.learners.r2d2 import R2d2
from metafleet.learners.relationnet import RelationNet
from metafleet.learners.reptile import Reptile
from metafleet.learners.sklearn_head import SklearnHead
from metafleet.learners.snail import Snail
from metafleet.learners.text_prototypes import TextPrototypes
from metafleet.learners.tip_adapter import TipAdapter
from metafleet.learners.zero_shot import ZeroShot
from metafleet.models.base import ModelFactory
from metafleet.problem import Problem
from metafleet.registry import Registry

_BUILT_IN: tuple[type[LearnerClass], ...] = (
    Anil,
    Anp,
    Boil,
    Cavia,
    Cnp,
    CosinePrototypes,
    Imaml,
    Logistic,
    LpPlusPlus,
    Maml,
    MamlPlusPlus,
    Mann,
    MatchingNet,
    MetaCurvature,
    MetaSgd,
    MetaOptNet,
    Mmaml,
    MultilabelProtonet,
    NearestPrototype,
    ProtoMaml,
    Protonet,
    R2d2,
    RelationNet,
    Reptile,
    Ridge,
    SklearnHead,
    Snail,
    TextPrototypes,
    TipAdapter,
    ZeroShot,
)
LEARNERS: Registry[type[LearnerClass]] = Registry("learner", _BUILT_IN)


def build_learner(
    options: Mapping[str, Any],
    problem: Problem,
    make_model: ModelFactory,
    *,
    allowed_packages: Sequence[str] = (),
) -> Learner:
    """Build the learner described by ``options``.

    Raises:
        ConfigError: an option is wrong or does not fit ``problem``.
    """
    found, parsed = LEARNERS.resolve(options, allowed_packages=allowed_packages)
    if problem.is_multi_label and not _takes_several_labels(found):
        able = ", ".join(repr(name) for name, it in LEARNERS.items() if _takes_several_labels(it))
        raise ConfigError(
            f"learner {options['name']!r} takes one class an item, but the data have several "
            f"labels an item; choose one of {able}"
        )
    return found.build(parsed, problem, make_model)


def _takes_several_labels(learner: type[LearnerClass]) -> bool:
    return bool(getattr(learner, "takes_several_labels", False))
