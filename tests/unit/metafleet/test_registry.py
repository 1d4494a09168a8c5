import sys
from pathlib import Path

import pytest

from metafleet.errors import ConfigError
from metafleet.models.registry import model_factory
from metafleet.problem import Problem
from metafleet.workload import Workload
from tests.unit.metafleet.few_shot import FakeSource
from tests.unit.metafleet.test_workload import SPEC

PACKAGE = """
from dataclasses import dataclass

import torch

from metafleet.models.mlp import Mlp, MlpOptions


@dataclass(frozen=True)
class WideOptions:
    factor: int = 3


class Wide(Mlp):
    Options = WideOptions

    @classmethod
    def build(cls, options, problem, n_outputs):
        return Mlp.build(MlpOptions(hidden=(options.factor,)), problem, n_outputs)


@dataclass(frozen=True)
class LooseOptions:
    modality: str = ""
    modalities: str = "all"


class Loose(Wide):
    Options = LooseOptions

    @classmethod
    def build(cls, options, problem, n_outputs):
        return Wide.build(WideOptions(), problem, n_outputs)


class Bare:
    pass
"""

BROKEN = {
    "broken": "import not_installed_anywhere",
    "unfinished": "def build():\nWIDE = 1\n",
    "raising": "def ask():\n    if True:\n        raise RuntimeError('no licence')\n\nask()\n",
    "using": "import own_models.raising",
    "misspelt": "import math\n\nFULL = math.tua\n",
}
"""Modules that cannot be imported: name -> source."""


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_models").mkdir()
    (tmp_path / "own_models" / "__init__.py").write_text("")
    (tmp_path / "own_models" / "wide.py").write_text(PACKAGE)
    for name, source in BROKEN.items():
        (tmp_path / "own_models" / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_models"


def build(name: str, *allowed: str, **options: object) -> Workload:
    spec = SPEC.to_json() | {"model": {"name": name, **options}}
    return Workload.bind(type(SPEC).from_json(spec), FakeSource(), allowed_packages=allowed)


def test_options_of_a_custom_model_may_mean_anything(own_package: str) -> None:
    assert build("own_models.wide:Loose", own_package).init_state().params


def test_a_model_of_an_allowed_package_is_built_with_its_options(own_package: str) -> None:
    workload = build("own_models.wide:Wide", own_package, factor=4)
    assert workload.init_state().params["layer0.weight"].shape[0] == 4
    gradient = workload.gradient(
        workload.init_state(), split="meta_train", step=0, first_episode=0, n_episodes=1
    )
    assert float(gradient.grads["layer0.weight"].abs().max()) > 0


@pytest.mark.parametrize(
    ("name", "allowed", "message"),
    [
        (
            *("own_models.wide:Wide", ()),
            "(allowed: none); from Python give allowed_packages=['own_models'], for commands and "
            "workers set METAFLEET_ALLOWED_PACKAGES=own_models",
        ),
        (
            *("own_models.wide:Wide", ("own",)),
            "(allowed: 'own'); from Python give allowed_packages=['own', 'own_models'], for "
            "commands and workers set METAFLEET_ALLOWED_PACKAGES=own,own_models",
        ),
        ("os:system", ("own_models",), "is in package 'os', which may not be imported here"),
        ("own_models.wide:Wider", ("own_models",), "has no 'Wider'; check the spelling"),
        ("own_models.narrow:Wide", ("own_models",), "'own_models.narrow' cannot be imported"),
        (
            *("own_models.broken:Wide", ("own_models",)),
            "cannot be imported (ModuleNotFoundError: No module named 'not_installed_anywhere', "
            "broken.py:1); install it",
        ),
        (
            *("own_models.unfinished:Wide", ("own_models",)),
            "module 'own_models.unfinished' cannot be imported (IndentationError: expected an "
            "indented block after function definition on line 1, unfinished.py:2); correct it",
        ),
        (
            *("own_models.raising:Wide", ("own_models",)),
            "cannot be imported (RuntimeError: no licence, raising.py:3); correct it",
        ),
        (
            *("own_models.using:Wide", ("own_models",)),
            "cannot be imported (RuntimeError: no licence, raising.py:3); correct it",
        ),
        (
            *("own_models.misspelt:Wide", ("own_models",)),
            "cannot be imported (AttributeError: module 'math' has no attribute 'tua', misspelt.py",
        ),
        ("own_models.wide:Bare", ("own_models",), "has no dataclass 'Options'"),
        ("own_models.wide:torch", ("own_models",), "has no dataclass 'Options'"),
        (":Wide", ("own_models",), "is in package ''"),
        ("own_models.wide", ("own_models",), "or 'package.module:Class' for your own"),
    ],
)
def test_a_forbidden_or_missing_import_is_named(
    own_package: str, name: str, allowed: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, *allowed)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wide:Late", "has no 'Late'"),
        ("late:Late", "cannot be imported (ImportError: cannot import"),
    ],
)
def test_a_change_after_the_import_says_to_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    package = tmp_path / "edited_models"
    package.mkdir()
    (package / "wide.py").write_text(PACKAGE)
    (package / "late.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    build("edited_models.wide:Wide", "edited_models")
    with (package / "wide.py").open("a") as file:
        file.write("\n\nclass Late(Wide):\n    pass\n")
    (package / "late.py").write_text("from edited_models.wide import Late")

    with pytest.raises(ConfigError) as caught:
        build(f"edited_models.{name}", "edited_models")

    assert reason in str(caught.value)
    assert str(caught.value).endswith(
        "; package 'edited_models' was changed on disk after this process imported it: restart "
        "this process"
    )
    for module in ("wide", "late"):
        sys.modules.pop(f"edited_models.{module}", None)
    del sys.modules["edited_models"]


def test_options_of_an_own_model_are_checked_like_built_in_ones(own_package: str) -> None:
    with pytest.raises(ConfigError, match=r"'own_models\.wide:Wide' has no option 'size'"):
        model_factory(
            {"name": "own_models.wide:Wide", "size": 1},
            Problem({"x": (2,)}, 1, {}),
            allowed_packages=(own_package,),
        )
