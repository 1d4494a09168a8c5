"""A model card in the format of Hugging Face: YAML front matter, then Markdown.

All facts on the card come from the model's own files. The format is described at
https://huggingface.co/docs/hub/model-cards.
"""

from metafleet.inference.card.facts import kinds_of
from metafleet.inference.card.front_matter import front_matter
from metafleet.inference.card.repeating import how_to_repeat
from metafleet.inference.card.sections import adapted_to, judged_on, licences, limits, trained_on
from metafleet.inference.card.text import code, fenced, plain, to_yaml
from metafleet.inference.kept_model import KeptModel


def render_card(model: KeptModel) -> str:
    """Return the text of a model's card."""
    sections = {
        "Use": _use(model),
        "Adapted to": adapted_to(model),
        "Trained on": trained_on(model),
        "Judged on": judged_on(model),
        "Limits": limits(model),
        "Licences": licences(model),
        "How to repeat it": how_to_repeat(model),
    }
    parts = [
        f"---\n{to_yaml(front_matter(model))}---",
        f"# {plain(_title(model))}",
        _summary(model),
        *(f"## {heading}\n\n{text}" for heading, text in sections.items() if text),
    ]
    return "\n\n".join(parts) + "\n"


def _title(model: KeptModel) -> str:
    name = model.learned.origin.name or str(model.learned.blueprint.learner["name"])
    if model.needs is None:
        return name
    what = f"{len(model.classes)} classes" if model.classes else "a function"
    return f"{name}, adapted to {what}"


def _summary(model: KeptModel) -> str:
    blueprint = model.learned.blueprint
    inputs = ", ".join(
        code(name) if kind == name else f"{code(name)} ({plain(kind)})"
        for name, kind in kinds_of(model).items()
    )
    made = (
        f"Learner {code(str(blueprint.learner['name']))} with network "
        f"{code(str(blueprint.model['name']))}, made "
        f"with Metafleet. Inputs: {inputs}."
    )
    if model.needs is not None:
        return f"{made} It is adapted and predicts."
    what = "a function" if blueprint.problem.is_regression else "new classes"
    return f"{made} It is meta-trained, and adapts to {what} from a few examples."


def _use(model: KeptModel) -> str:
    commands = ["metafleet predict MODEL FOLDER"]
    if model.needs is None:
        commands = [
            "metafleet adapt MODEL --support FOLDER --out NEW-MODEL",
            "metafleet predict NEW-MODEL FOLDER",
        ]
    return f"MODEL is the folder of this card.\n\n{fenced('sh', commands)}"
