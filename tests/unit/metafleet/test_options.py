from dataclasses import dataclass, field, make_dataclass
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from metafleet.errors import ConfigError
from metafleet.learners.registry import LEARNERS
from metafleet.models.registry import MODELS
from metafleet.options import parse_options


@dataclass(frozen=True, slots=True)
class Sample:
    size: int
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    widths: tuple[int, ...] = (1,)
    limit: int | None = None
    is_on: bool = False
    tags: tuple[str, ...] = field(default=())


def test_json_values_become_the_types_of_the_fields() -> None:
    values = {"name": "x", "size": 3, "rate": 2, "widths": [4, 5], "limit": None, "tags": ["t"]}
    parsed = parse_options(Sample, values, where="sample")
    assert parsed == Sample(size=3, rate=2.0, widths=(4, 5), tags=("t",))
    assert isinstance(parsed.rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "sample needs the option 'size'; add it"),
        ({"size": 1, "sise": 2}, "sample has no option 'sise'; its options are: is_on, kind"),
        ({"size": 1.0}, "sample: size=1.0; expected a whole number"),
        ({"size": None}, "sample: size=None; expected a whole number"),
        ({"size": 1, "kind": "c"}, "sample: kind='c'; expected one of 'a', 'b'"),
        ({"size": 1, "kind": ["a"]}, "sample: kind=['a']; expected one of 'a', 'b'"),
        ({"size": 1, "widths": "12"}, "sample: widths='12'; expected a list"),
        ({"size": 1, "widths": [1, "2"]}, "sample: widths='2'; expected a whole number"),
        ({"size": 1, "limit": "3"}, "sample: limit='3'; expected a whole number"),
        ({"size": 1, "is_on": "yes"}, "sample: is_on='yes'; expected true or false"),
        ({"size": 1, "rate": True}, "sample: rate=True; expected a finite number"),
        ({"size": 1, "rate": 10**400}, "expected a finite number"),
        ({"size": 1, "tags": [1]}, "sample: tags=1; expected a text"),
    ],
)
def test_a_problem_is_reported_in_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Sample, values, where="sample")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("hint", "value", "shown"),
    [
        (list[int], [1], "list[int]"),
        (list[int] | None, [1], "list[int]"),
        (dict[str, int], {"a": 1}, "dict[str, int]"),
        (set[str], ["a"], "set[str]"),
    ],
)
def test_a_type_that_cannot_be_read_is_one_line(hint: Any, value: object, shown: str) -> None:
    cls = make_dataclass("Wrong", [("sizes", hint, None)], frozen=True)

    with pytest.raises(ConfigError) as caught:
        parse_options(cls, {"sizes": value}, where="learner 'mine'")

    told = str(caught.value)
    assert told.startswith(f"learner 'mine': sizes is declared as {shown}, which cannot be read; ")
    assert "tuple[T, ...]" in told and "\n" not in told


@pytest.mark.parametrize("cls", [*LEARNERS.values(), *MODELS.values()], ids=lambda c: c.__name__)
def test_options_can_be_checked_by_pydantic_too(cls: type) -> None:
    adapter = TypeAdapter(cls.Options)  # type: ignore[attr-defined]
    assert adapter.validate_python({}) == cls.Options()  # type: ignore[attr-defined]


def test_ranges_hold_in_pydantic_too() -> None:
    with pytest.raises(ValidationError, match=r"inner_lr=-1\.0; expected more than 0"):
        TypeAdapter(LEARNERS["maml"].Options).validate_python({"inner_lr": -1.0})
