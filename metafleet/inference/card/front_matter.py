"""The front matter of a model card, which the Hub reads."""

from typing import Any

from metafleet.inference.card.facts import episodes_of, hub_task, kinds_of, own_results
from metafleet.inference.kept_model import KeptModel
from metafleet.inference.model_record import Result


def front_matter(model: KeptModel) -> dict[str, Any]:
    """Return the values of the front matter; see https://huggingface.co/docs/hub/model-cards."""
    origin, learner = model.learned.origin, str(model.learned.blueprint.learner["name"])
    tags = ["metafleet", "meta-learning", "few-shot-learning", learner, *kinds_of(model).values()]
    values: dict[str, Any] = {
        "library_name": "metafleet",
        "tags": list(dict.fromkeys(tags)),
        "license": "unknown",
    }
    if _is_public(model):
        values["datasets"] = [origin.data]
    task = hub_task(model)
    if task is not None:
        values["pipeline_tag"] = task
    results = own_results(model)
    if results:
        entries = [_entry(result, origin.data, task) for result in results]
        values["model-index"] = [{"name": origin.name or learner, "results": entries}]
    return values


def _entry(result: Result, data: str, task: str | None) -> dict[str, Any]:
    return {
        "task": {"type": task or "few-shot-learning", "name": episodes_of(result)},
        "dataset": {"type": data, "name": data, "split": result.split},
        "metrics": [
            {
                "type": figure.name.replace(" ", "_"),
                "value": round(figure.value, 6),
                "name": f"{figure.name}, mean of {result.episodes} episodes",
                "args": {"ci95": round(figure.ci95, 6), "episodes": result.episodes},
            }
            for figure in result.figures
        ],
    }


def _is_public(model: KeptModel) -> bool:
    """Return whether others can get this data set, because it is not a user's folder or class."""
    name = model.learned.record.config.get("data", {}).get("name", "")
    data = model.learned.origin.data
    return bool(data) and "folder" not in (name, data) and ":" not in data
