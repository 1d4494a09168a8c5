"""docs/reference/api.md: the public names, with their signatures."""

import ast
import inspect
from collections.abc import Mapping
from typing import Any

import metafleet
from tests.pages.docstrings import markdown

THEMES = {
    "From a script": ("MetaLearner", "Adapted", "OuterStep", "BatchStep"),
    "Episodes and data": (
        "Episode",
        "ExampleSet",
        "EpisodeShape",
        "EpisodeSource",
        "CounterRng",
        "Problem",
        "DATASETS",
        "open_source",
        "SPLITS",
        "META_TRAIN",
        "META_VAL",
        "META_TEST",
    ),
    "Learners": (
        "Learner",
        "EpisodicLearner",
        "InnerLoopLearner",
        "EpisodeContext",
        "EpisodeMetrics",
        "MetaGradient",
        "QueryGradient",
        "LEARNERS",
        "build_learner",
        "Maml",
        "MamlOptions",
        "Protonet",
        "ProtonetOptions",
        "NearestPrototype",
    ),
    "Models": (
        "Model",
        "ModelFactory",
        "MODELS",
        "model_factory",
        "Conv4",
        "Conv4Options",
        "Mlp",
        "MlpOptions",
        "average_buffers",
    ),
    "State and runs": (
        "MetaState",
        "Params",
        "digest",
        "flatten_state",
        "unflatten_state",
        "TreeReducer",
        "Workload",
        "WorkloadSpec",
        "Summary",
        "summarise",
    ),
    "Records and fleet": ("Client",),
    "Learned models": (
        "LearnedModel",
        "AdaptedModel",
        "Prediction",
        "ReadOptions",
        "load_model",
        "few_shot_model",
        "adapt",
        "correct",
    ),
    "Errors": ("MetafleetError", "ConfigError", "DataError", "ModelError", "NumericsError"),
}


def render() -> str:
    """Return the page: every public name with its signature and what it is."""
    left = [name for name in metafleet.__all__ if name not in sum(THEMES.values(), ())]
    parts = [
        "# Public names",
        "This page lists what `import metafleet` offers. Docstrings give shapes and errors.\n"
        "`make pages` writes this page from the code.",
    ]
    for theme, names in (THEMES | ({"More": tuple(left)} if left else {})).items():
        parts.append(f"## {theme}")
        parts.extend(_entry(name) for name in names)
    return "\n\n".join(parts) + "\n"


def _entry(name: str) -> str:
    value = getattr(metafleet, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        lines = "\n".join(_class_lines(value) if inspect.isclass(value) else _function_lines(value))
        return f"### `{name}`\n\n{_summary(value)}\n\n```python\n{lines}\n```"
    return f"### `{name}`\n\n`{_constant(value)}`"


def _source_of(value: Any) -> ast.stmt:
    """Find the definition, whose annotations are as they were written."""
    module = ast.parse(inspect.getsource(inspect.getmodule(value)))
    return next(n for n in module.body if getattr(n, "name", None) == value.__name__)


def _class_lines(cls: type) -> list[str]:
    """Return a class without docstrings, bodies and what is private."""
    node = _source_of(cls)
    assert isinstance(node, ast.ClassDef)
    bases = ", ".join(map(ast.unparse, node.bases))
    members: dict[str, str] = {}
    for part in (*reversed(_hidden_bases(cls)), cls):
        members |= _members(_source_of(part))
    header = f"class {node.name}({bases})" if bases else f"class {node.name}"
    attributes_first = sorted(members.values(), key=lambda line: line.startswith(("def", "@")))
    return [header, *(f"    {line}" for line in attributes_first)]


def _hidden_bases(cls: type) -> list[type]:
    """Return the bases that the page shows neither by themselves nor as bases of another class."""
    public = [base for base in cls.__mro__[1:] if base.__name__ in metafleet.__all__]
    return [
        base
        for base in cls.__mro__[1:]
        if base.__module__.startswith("metafleet.") and not any(issubclass(p, base) for p in public)
    ]


def _members(node: ast.stmt) -> dict[str, str]:
    assert isinstance(node, ast.ClassDef)
    members = {}
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and not ast.unparse(part.target).startswith("_"):
            members[ast.unparse(part.target)] = ast.unparse(part)
        if isinstance(part, ast.FunctionDef) and _is_shown(part.name):
            members[part.name] = _signature(part)
    return members


def _function_lines(function: Any) -> list[str]:
    node = _source_of(function)
    assert isinstance(node, ast.FunctionDef)
    return [_signature(node)]


def _signature(node: ast.FunctionDef) -> str:
    prefix = "@property def" if _is_property(node) else "def"
    arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("self")
    arguments = arguments.removeprefix("cls, ").removeprefix("cls")
    returned = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"{prefix} {node.name}({arguments}){returned}"


def _is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)


def _is_shown(name: str) -> bool:
    return not name.startswith("_") or name in ("__init__", "__call__")


def _constant(value: Any) -> str:
    if isinstance(value, str | tuple):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{type(value).__name__}, name -> class"
    return str(value).replace("torch.", "")


def _summary(value: Any) -> str:
    return markdown((inspect.getdoc(value) or "").partition("\n\n")[0])
