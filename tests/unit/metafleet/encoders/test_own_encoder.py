"""Encoders of users are imported where that is allowed, and each of their answers is checked."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metafleet.data import registry
from metafleet.encoders.own_encoder import import_encoders
from metafleet.encoders.registry import get_encoder
from metafleet.errors import ConfigError, MetafleetError
from metafleet.inference.from_encoder import few_shot_model
from tests.folders import CLASSES, OTHER_SEED
from tests.menagerie import make_classes
from tests.unit.metafleet.encoders import tiny_models as tiny

_SOURCE = Path(__file__).with_name("own_encoders.py")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"own{abs(hash(str(tmp_path))) % 10**9}"
    (tmp_path / "lib" / name).mkdir(parents=True)
    (tmp_path / "lib" / name / "__init__.py").write_text("")
    (tmp_path / "lib" / name / "colours.py").write_text(_SOURCE.read_text())
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield name
    for module in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[module]


def _get(package: str, called: str, pooling: str = "") -> Any:
    name = f"{package}.colours:{called}"
    import_encoders({"image": {"encoder": name}}, allowed_packages=[package])
    return get_encoder(name, kind="image", pooling=pooling)


def test_an_encoder_of_a_user_encodes_and_is_known_by_its_sources(package: str) -> None:
    items = tiny.pictures(5, side=8)
    encoder = _get(package, "Colours")

    np.testing.assert_allclose(
        encoder.encode_part(items[:4]), items[:4].mean((2, 3)) / 255, atol=1e-6
    )
    found = _get(package, "Colours", "max").encode_part(items[:4])
    np.testing.assert_allclose(found, items[:4].max((2, 3)) / 255, atol=1e-6)
    assert encoder.identity()["version"] == 1
    assert len(encoder.identity()["sources"]) == 16


def test_a_folder_is_prepared_with_it(package: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in CLASSES:
        (tmp_path / "pets" / label).mkdir(parents=True)
        for item in range(3):
            picture = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
            picture.save(tmp_path / "pets" / label / f"{item}.png")
    options = {
        "name": "folder",
        "path": str(tmp_path / "pets"),
        "split_seed": OTHER_SEED,
        "image": {"encoder": f"{package}.colours:Colours"},
    }

    data = registry.open_data(options, tmp_path / "data", allowed_packages=[package])
    found = data.open_classes()

    assert found is not None
    assert found.prepared.load("image").shape == (3 * len(CLASSES), 3)


@pytest.mark.parametrize(
    ("called", "told"),
    [
        ("Narrow", "encode returned float32 [4, 2]; expected float32 [4, 3]"),
        (
            "Raising",
            "encode failed (ZeroDivisionError: division by zero, colours.py:38); correct",
        ),
        ("Listing", "encode returned list; expected float32 [4, 3]"),
        ("Countless", "n_features returned 0; expected a whole number from 1"),
        ("Unbatched", "has batch_items=0; expected a whole number from 1"),
        ("Kindless", "has kinds=(); expected a set of kinds of data"),
        ("Unclear", "identity failed (TypeError"),
        ("Plain", "is no subclass of PretrainedEncoder"),
        ("Absent", "has no 'Absent'"),
    ],
)
def test_a_wrong_answer_is_one_line(package: str, called: str, told: str) -> None:
    with pytest.raises(MetafleetError) as caught:
        encoder = _get(package, called)
        encoder.identity()
        encoder.encode_part(tiny.pictures(3, side=8))

    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_option_that_the_decoder_has_not_is_one_line(package: str, tmp_path: Path) -> None:
    from metafleet.data.decoding.features import check_encoder  # noqa: PLC0415
    from metafleet.data.decoding.image import ImageOptions  # noqa: PLC0415

    _get(package, "Demanding")

    with pytest.raises(ConfigError, match="asks for 'size', which is no option of 'image'"):
        check_encoder("image", ImageOptions(encoder=f"{package}.colours:Demanding"))


def test_a_package_that_is_not_allowed_is_not_imported(package: str) -> None:
    name = f"{package}.colours:Colours"

    with pytest.raises(ConfigError, match="which may not be imported here"):
        get_encoder(name, kind="image")
    with pytest.raises(ConfigError, match="which may not be imported here"):
        import_encoders([{"encoder": name}], allowed_packages=["another"])
    assert package not in sys.modules


def test_a_model_without_a_run_may_have_one_of_an_allowed_package(
    package: str, tmp_path: Path
) -> None:
    make_classes(tmp_path / "pets", range(0, 24, 8), n_items=2, seed=1)
    name = {"image": f"{package}.colours:Colours"}

    with pytest.raises(ConfigError, match=f"set METAFLEET_ALLOWED_PACKAGES=another,{package}$"):
        few_shot_model(name, allowed_packages=["another"])
    model = few_shot_model(name, allowed_packages=[package]).adapt(tmp_path / "pets")

    assert [row.label for row in model.predict(tmp_path / "pets")] == [
        f"thing{number:02d}" for number in range(0, 24, 8) for _ in range(2)
    ]


def test_another_kind_is_refused(package: str) -> None:
    _get(package, "Colours")

    with pytest.raises(ConfigError, match="takes image; expected one that takes text"):
        get_encoder(f"{package}.colours:Colours", kind="text")


def test_a_wrong_factor_of_cosines_is_one_line(package: str) -> None:
    assert _get(package, "Colours").logit_scale is None
    with pytest.raises(ConfigError, match=r"logit_scale=-1\.0; expected a number above 0"):
        _ = _get(package, "Scaled").logit_scale
