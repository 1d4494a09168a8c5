"""The commands, configuration, versions and digests that are needed to reproduce a model."""

import shlex
from collections.abc import Iterator

from metafleet.inference.card.facts import own_results
from metafleet.inference.card.text import fenced, plain, table, to_toml
from metafleet.inference.kept_model import KeptModel
from metafleet.params import digest, flatten_state


def how_to_repeat(model: KeptModel) -> str:
    """Describe how to reproduce the model, and how to check that the result is the same."""
    learned = model.learned
    origin, config = learned.origin, learned.record.config
    facts = [("sha256 of params and buffers", f"`{digest(flatten_state(learned.state))}`")]
    if origin.run:
        versions = ", ".join(f"{name} {number}" for name, number in sorted(origin.packages.items()))
        facts += [
            ("run", f"`{origin.run}`"),
            ("seed", str(origin.seed)),
            ("metafleet", plain(origin.code)),
            ("packages", plain(versions)),
        ]
    parts = [table(("what", "is"), facts)]
    if config:
        name = origin.name or "model"
        parts += [
            f"`{name}.toml` is below. Its folders are named as if they were in the home folder.",
            fenced("sh", _commands(name, model)),
            f"<details><summary>{plain(name)}.toml</summary>\n\n"
            f"{fenced('toml', [to_toml(config).strip()])}\n\n</details>",
        ]
    return "\n\n".join(parts)


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
