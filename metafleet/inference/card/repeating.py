"""The commands, configuration, versions and digests that are needed to reproduce a model."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from metafleet.encoders.identity import describe_identity
from metafleet.inference.card.facts import is_of_encoders, own_results, without_folder
from metafleet.inference.card.text import code, fenced, plain, table, to_toml
from metafleet.inference.input_spec import InputSpec
from metafleet.inference.kept_model import KeptModel
from metafleet.options import option_values
from metafleet.params import digest, flatten_state


def how_to_repeat(model: KeptModel) -> str:
    """Describe how to reproduce the model, and how to check that the result is the same."""
    learned = model.learned
    origin, config = learned.origin, learned.record.config
    facts = [*_digests(model)]
    if origin.run:
        facts += [("run", code(origin.run)), ("seed", str(origin.seed))]
    if origin.code:
        versions = ", ".join(f"{name} {number}" for name, number in sorted(origin.packages.items()))
        facts += [("metafleet", plain(origin.code)), ("packages", plain(versions))]
    parts = [table(("what", "is"), facts)] if facts else []
    if is_of_encoders(model):
        parts.append(fenced("sh", [shlex.join(_adapting(model))]))
    if config:
        name = origin.name or "model"
        parts += [
            f"{code(f'{name}.toml')} is below. Its folders are named as if they were in the home "
            "folder.",
            fenced("sh", _commands(name, model)),
            f"<details><summary>{plain(name)}.toml</summary>\n\n"
            f"{fenced('toml', [to_toml(config).strip()])}\n\n</details>",
        ]
    return "\n\n".join(parts)


def _digests(model: KeptModel) -> Iterator[tuple[str, str]]:
    """Yield the digests of the state and of the encoders."""
    learned = model.learned
    if learned.state.params:
        yield (
            "sha256 of params and buffers",
            f"`{digest(flatten_state(learned.state))}` (the sha256 of a checkpoint also covers the "
            "optimiser)",
        )
    for name, spec in learned.blueprint.inputs.items():
        if spec.encoder:
            yield f"encoder of {code(name)}", plain(describe_identity(spec.encoder))
    if learned.blueprint.class_text is not None:
        tower = learned.blueprint.class_text.tower
        yield "encoder of the names of classes", plain(describe_identity(tower.encoder))


def _adapting(model: KeptModel) -> Iterator[str]:
    """Yield the words of the command that made a model of encoders."""
    blueprint = model.learned.blueprint
    head = dict(blueprint.learner)
    yield from ("metafleet", "adapt")
    for kind, spec in blueprint.inputs.items():
        yield from ("--encoder", f"{kind}={without_folder(str(spec.options['encoder']))}")
    yield from ("--head", str(head.pop("name")))
    names = blueprint.class_text
    for prompt in () if names is None else names.prompts:
        yield from ("--prompt", prompt)
    tables = {"head": head} | {kind: _changed(spec) for kind, spec in blueprint.inputs.items()}
    for table_name, options in tables.items():
        for option, value in options.items():
            written = value if isinstance(value, str) else json.dumps(value)
            yield from ("--set", f"{table_name}.{option}={written}")
    yield from (*_classes(model), "--out", "NEW-MODEL")


def _classes(model: KeptModel) -> tuple[str, str]:
    """Return the option that gives the examples, or the names of classes without examples."""
    if not model.classes or any(model.classes.values()):
        return "--support", "FOLDER"
    joined = ",".join(model.classes)
    return "--classes", "FILE" if any("," in name for name in model.classes) else joined


def _changed(spec: InputSpec) -> dict[str, Any]:
    """Return the options of a decoder that differ from the defaults, except for the encoder."""
    defaults = option_values(type(spec.decoder_options())())
    return {
        name: value
        for name, value in option_values(spec.decoder_options()).items()
        if name != "encoder" and value != defaults[name]
    }


def _commands(name: str, model: KeptModel) -> list[str]:
    learned = f"{name}.learned"
    commands = [
        ["metafleet", "submit", f"{name}.toml"],
        *_evaluations(name, model),
        ["metafleet", "export", name, "--out", learned],
    ]
    if model.needs is not None:
        out = ["--support", "FOLDER", "--out", "NEW-MODEL"]
        commands.append(["metafleet", "adapt", learned, *out])
    return [shlex.join(words) for words in commands]


def _evaluations(name: str, model: KeptModel) -> Iterator[list[str]]:
    compared = {
        (it.split, it.otherwise) for it in model.learned.record.results if not it.is_trained
    }
    for result in own_results(model):
        yield [
            *("metafleet", "evaluate", name, "--split", result.split),
            *("--episodes", str(result.episodes)),
            *(word for it in result.otherwise for word in ("--set", f"episodes.{it}")),
            *(["--baselines"] if (result.split, result.otherwise) in compared else []),
        ]
