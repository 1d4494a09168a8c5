"""A model made of pretrained encoders and a head, which needs no training before it adapts."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from metafleet.data.decoding.features import encoder_of, example_of
from metafleet.data.decoding.registry import DECODERS, get_decoder
from metafleet.encoders.own_encoder import import_encoders
from metafleet.encoders.weights import version_of
from metafleet.episode import META_TEST, EpisodeShape
from metafleet.errors import ConfigError
from metafleet.inference.blueprint import Blueprint
from metafleet.inference.input_spec import InputSpec, reading_values
from metafleet.inference.learned_model import LearnedModel
from metafleet.inference.provenance import Provenance
from metafleet.options import parse_options
from metafleet.params import MetaState
from metafleet.problem import FEATURES, Problem

DEFAULT_HEAD: Final = "cosine_prototypes"
HEADS: Final = (DEFAULT_HEAD, "ridge", "logistic")
"""Learners that have nothing to learn and classify given features."""
_EPISODES: Final = {META_TEST: EpisodeShape(n_way=5, k_shot=1, n_query=1)}
"""A shape for trials of the model; heads take any number of classes and examples."""


def few_shot_model(
    encoder: Mapping[str, str],
    *,
    head: str = DEFAULT_HEAD,
    head_options: Mapping[str, Any] | None = None,
    kind_options: Mapping[str, Mapping[str, Any]] | None = None,
    allowed_packages: Sequence[str] = (),
) -> LearnedModel:
    """Make a model that classifies features of pretrained encoders. Nothing is trained.

    For example, ``metafleet.few_shot_model({"image": "package:efficientnet-lite0"}).adapt("pets")``
    learns the classes of the folder "pets". Only the support set is used to fit the head. Before
    that, the mean of the support set's class means is subtracted from the features.

    Args:
        encoder: kind of data -> name of its encoder; docs/reference/encoders.md lists them. Items
            may lack a modality as long as they have one.
        head: one of ``HEADS``.
        head_options: options of the head, such as {"penalty": 1.0}.
        kind_options: kind of data -> options of its decoder, such as
            {"audio": {"duration_s": 2.0}}, or "pooling" of its encoder.
        allowed_packages: your packages from which an encoder "package.module:Class" may be
            imported.

    Raises:
        ConfigError: a kind, encoder, head or option is unknown, or they cannot be combined.
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
    import_encoders(
        [{"encoder": name} for name in encoder.values()], allowed_packages=allowed_packages
    )
    specs = {
        kind: _spec(kind, name, (kind_options or {}).get(kind, {}))
        for kind, name in encoder.items()
    }
    problem = Problem(
        {kind: spec.shape for kind, spec in specs.items()},
        0,
        _EPISODES,
        kinds=dict.fromkeys(specs, FEATURES),
    )
    learner = {"name": head, **(head_options or {})}
    blueprint = Blueprint(learner, {"name": "raw"}, problem, specs)
    state: MetaState = blueprint.build().init_state(0)
    packages = {
        package: version
        for spec in specs.values()
        for package, version in spec.encoder.get("versions", {}).items()
    }
    origin = Provenance(code=version_of("metafleet"), packages=packages)
    return LearnedModel.of(blueprint, state, origin, allowed_packages)


def read_encoders(given: Sequence[str]) -> dict[str, str]:
    """Return kind -> encoder, given texts of the form KIND=NAME.

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


def _spec(kind: str, name: str, options: Mapping[str, Any]) -> InputSpec:
    if kind not in DECODERS:
        known = ", ".join(DECODERS)
        raise ConfigError(f"there is no kind of data {kind!r:.40}; expected one of {known}")
    decoder = get_decoder(kind)
    parsed = parse_options(decoder.Options, {**options, "encoder": name}, where=f"kind {kind!r}")
    encoder = encoder_of(kind, parsed)
    if encoder is None:
        raise ConfigError(f"encoder={name!r} of {kind!r} is none; give the name of one")
    if parsed.views > 1:
        raise ConfigError(
            f"views={parsed.views} of {kind!r}; expected 1: only meta-training draws views, and "
            "nothing is trained here"
        )
    identity = encoder.identity()  # first: says what to install
    shape = example_of(kind, parsed)[1]
    return InputSpec(kind, decoder.version, reading_values(parsed), shape, encoder=identity)
