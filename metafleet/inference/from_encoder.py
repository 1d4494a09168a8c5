"""A model made of pretrained encoders and a head, which needs no training before it adapts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from metafleet.data.decoding.features import encoder_of
from metafleet.data.decoding.registry import get_decoder
from metafleet.encoders.class_texts import (
    DEFAULT_PROMPT,
    SLOT,
    ClassTexts,
    require_text_tower,
)
from metafleet.encoders.own_encoder import import_encoders
from metafleet.encoders.weights import version_of
from metafleet.episode import CLASS_TEXT, META_TEST, EpisodeShape
from metafleet.errors import ConfigError
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.class_text_spec import ClassTextSpec
from metafleet.inference.input_spec import InputSpec
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.provenance import Provenance
from metafleet.learners.registry import LEARNERS
from metafleet.learners.text_head import TextHeadOptions
from metafleet.params import MetaState
from metafleet.problem import FEATURES, Problem

DEFAULT_HEAD: Final = "cosine_prototypes"
ZERO_SHOT: Final = "zero_shot"
TEXT_HEADS: Final = (ZERO_SHOT, "text_prototypes", "tip_adapter", "lp_plus_plus")
"""Heads that compare items with names of classes, by an encoder with a text tower."""
HEADS: Final = (DEFAULT_HEAD, "ridge", "logistic", *TEXT_HEADS)
"""Learners that need no training and classify given features."""
_SHAPE: Final = EpisodeShape(n_way=5, k_shot=1, n_query=1)
"""A shape for trials of the model; heads take any number of classes and examples."""


def few_shot_model(
    encoder: Mapping[str, str],
    *,
    head: str = DEFAULT_HEAD,
    head_options: Mapping[str, Any] | None = None,
    kind_options: Mapping[str, Mapping[str, Any]] | None = None,
    prompts: Sequence[str] = (),
    allowed_packages: Sequence[str] = (),
) -> LearnedModel:
    """Make a model that classifies features of pretrained encoders. Nothing is trained.

    For example, ``metafleet.few_shot_model({"image": "package:efficientnet-lite0"}).adapt("pets")``
    learns the classes of the folder "pets". The head is fitted to the support set alone. A head
    that does not use texts first subtracts a vector from all features: the mean of the class means
    of the support set. ``TEXT_HEADS`` need one encoder that has a text tower. With the head
    "zero_shot", ``LearnedModel.adapt_to_names`` needs only the names of classes.

    Args:
        encoder: kind of data -> name of its encoder; docs/reference/encoders.md lists the encoders.
            An item may lack modalities as long as it has at least one.
        head: one of ``HEADS``.
        head_options: options of the head, such as {"penalty": 1.0}.
        kind_options: kind of data -> options of its decoder; {"audio": {"duration_s": 2.0}} is an
            example. The options of a kind may also have "pooling", the pooling of its encoder.
        prompts: for ``TEXT_HEADS``, texts in which "{}" stands for the name of a class. With (),
            the prompt is "a photo of a {}." for pictures and clips, and the name alone for other
            kinds.
        allowed_packages: your packages from which an encoder "package.module:Class" may be
            imported.

    Raises:
        ConfigError: a kind, encoder, head or option is unknown, or the values cannot be combined.
        DataMissingError: weights or libraries are not on this machine. The message says how to
            install them.
        DataCorruptError: weights are damaged.
    """
    if not encoder:
        raise ConfigError("a model without a run needs an encoder, such as image=NAME")
    if head not in HEADS:
        raise ConfigError(f"head={head!r}; expected one of {', '.join(HEADS)}")
    if "name" in (head_options or {}):
        raise ConfigError(
            f"the head has no option 'name'; choose one of {', '.join(HEADS)} as the head itself"
        )
    for kind in kind_options or {}:
        if kind not in encoder:
            raise ConfigError(f"{kind!r} has options but no encoder; give --encoder {kind}=NAME")
    if prompts and head not in TEXT_HEADS:
        raise ConfigError(
            f"head {head!r} reads no prompts; leave them out, or choose one of "
            f"{', '.join(TEXT_HEADS)}"
        )
    import_encoders(
        [{"encoder": name} for name in encoder.values()], allowed_packages=allowed_packages
    )
    specs = {
        kind: InputSpec.of_encoder(kind, name, (kind_options or {}).get(kind, {}))
        for kind, name in encoder.items()
    }
    options = dict(head_options or {})
    modalities, shape, names = {kind: spec.shape for kind, spec in specs.items()}, _SHAPE, None
    if head in TEXT_HEADS:
        names, scale = _names_for(specs, head, prompts)
        modalities[CLASS_TEXT], shape = names.tower.shape, replace(_SHAPE, class_text=True)
        if issubclass(LEARNERS[head].Options, TextHeadOptions):
            options = {"scale": scale, **options}
    problem = Problem(
        modalities,
        0,
        {META_TEST: shape},
        partial=frozenset(modalities.keys() - specs.keys()),
        kinds=dict.fromkeys(specs, FEATURES),
    )
    blueprint = Blueprint({"name": head, **options}, {"name": "raw"}, problem, specs, names)
    state: MetaState = blueprint.build().init_state(0)
    packages = {
        package: version
        for spec in specs.values()
        for package, version in spec.encoder.get("versions", {}).items()
    }
    origin = Provenance(code=version_of("metafleet"), packages=packages)
    return LearnedModel.of(blueprint, state, origin, allowed_packages)


def _names_for(
    specs: Mapping[str, InputSpec], head: str, prompts: Sequence[str]
) -> tuple[ClassTextSpec, float]:
    """Return how names of classes are encoded, and the factor that turns cosines into logits.

    Raises:
        ConfigError: there are several encoders, the encoder has no text tower, or a prompt is
            wrong.
    """
    if len(specs) > 1:
        raise ConfigError(
            f"head {head!r} compares one kind of data with names of classes, but "
            f"{' and '.join(specs)} have encoders; give one"
        )
    ((kind, spec),) = specs.items()
    encoder, decoder = encoder_of(kind, spec.decoder_options()), get_decoder(kind)
    assert encoder is not None
    scale = require_text_tower(encoder, kind)
    default = DEFAULT_PROMPT if decoder.is_picture or decoder.frame_kind else SLOT
    texts = ClassTexts(str(spec.options["encoder"]), tuple(prompts) or (default,))
    return ClassTextSpec.of(texts), scale


def read_encoders(given: Sequence[str]) -> dict[str, str]:
    """Return kind -> name of its encoder, from texts of the form KIND=NAME.

    Raises:
        ConfigError: a text has another form, or a kind is given twice.
    """
    found: dict[str, str] = {}
    for text in given:
        kind, _, name = text.partition("=")
        if not kind or not name:
            raise ConfigError(
                f"encoder {text!r:.80}; expected KIND=NAME, such as "
                "image=package:efficientnet-lite0"
            )
        if kind in found:
            raise ConfigError(f"{kind!r} has two encoders, {found[kind]!r} and {name!r}; give one")
        found[kind] = name
    return found
