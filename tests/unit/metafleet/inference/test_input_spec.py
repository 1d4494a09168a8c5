"""How prepared arrays are read from files again."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from metafleet.data.prepared.prepared import ArrayInfo
from metafleet.errors import ConfigError, ModelError
from metafleet.inference.input_spec import InputSpec
from metafleet.inference.run_inputs import input_specs
from tests.folders import class_folders
from tests.viewed import options, write_colours, write_pictures


def info(kind: str, *shape: int) -> ArrayInfo:
    return ArrayInfo("uint8", (7, *shape), 0, "", 7, kind)


def test_grey_arrays_without_channels_are_ink_on_black() -> None:
    found = InputSpec.of(info("image", 28, 28), {})

    assert (found.shape, found.is_inverted) == ((1, 28, 28), True)
    assert (found.options["side"], found.options["channels"]) == (28, 1)


def test_sizes_come_from_the_array_and_the_rest_from_the_options() -> None:
    found = InputSpec.of(info("image", 3, 16, 16), {"fit": "pad"})

    assert not found.is_inverted
    wanted = {"side": 16, "channels": 3, "fit": "pad", "range": "dtype", "encoder": ""}
    assert wanted.items() <= found.options.items()
    assert InputSpec.from_json("image", found.to_json()) == found


def test_views_are_of_training_alone(tmp_path: Path) -> None:
    folder, encoder = write_pictures(tmp_path / "pictures", n_each=2), write_colours(tmp_path)
    one, several = (
        input_specs(options(folder, encoder, **more), tmp_path)["image"]
        for more in ({}, {"views": 2, "flip": True})
    )

    assert several == one and several.decoder_options().views == 1
    assert not {"views", "flip"} & set(several.options)


def test_an_array_that_no_decoder_makes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shape \[3, 16, 20\] are not made by the decoder"):
        InputSpec.of(info("image", 3, 16, 20), {})


def test_another_version_of_a_decoder_is_refused() -> None:
    values = InputSpec.of(info("image", 3, 16, 16), {}).to_json()

    with pytest.raises(ModelError, match="version 99 of the decoder of image"):
        InputSpec.from_json("image", values | {"version": 99})


def part(folder: Path, **options: Any) -> dict[str, Any]:
    return {"name": "folder", "path": str(folder), "image": {"side": 8}, **options}


def test_a_mixture_is_read_as_its_parts_are_by_the_names_they_have_in_it(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "things")
    first = part(folder)
    second = part(folder, modalities=["image"], image={"side": 8, "fit": "pad"})
    renamed = {**second, "part": "photos", "rename": {"image": "photo"}}
    mixture = {"name": "mixture", "parts": [first, renamed]}

    found = input_specs(mixture, tmp_path)

    own, other = input_specs(first, tmp_path), input_specs(second, tmp_path)
    assert found == {**own, "photo": other["image"]}
    assert found["photo"] != found["image"]


def grey_folder(folder: Path, level: int) -> Path:
    for number in range(12):
        path = folder / f"kind{number:02d}"
        path.mkdir(parents=True)
        for item in range(2):
            Image.new("RGB", (8, 8), (level, level, number + 12 * item)).save(path / f"{item}.png")
    return folder


def test_the_brightness_of_parts_is_their_mean_in_any_order(tmp_path: Path) -> None:
    folders = [grey_folder(tmp_path / str(level), level) for level in (0, 60, 240)]
    single = [input_specs(part(folder), tmp_path)["image"].brightness or 0.0 for folder in folders]
    assert max(single) - min(single) > 0.5

    for order in permutations(folders):
        parts = [part(folder, part=folder.name) for folder in order]
        found = input_specs({"name": "mixture", "parts": parts}, tmp_path)["image"]
        assert found.brightness == pytest.approx(sum(single) / 3, abs=1e-4)


def test_parts_that_read_a_modality_differently_are_both_named(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "things")
    other = part(folder, part="photos", image={"side": 8, "fit": "pad"})

    with pytest.raises(ConfigError) as caught:
        input_specs({"name": "mixture", "parts": [part(folder), other]}, tmp_path)

    assert str(caught.value) == (
        "modality 'image' is read in one way in part 'folder' and in another in part 'photos' "
        "(fit 'crop' and 'pad'); train with another name for it, as rename = "
        '{ image = "photos_image" }'
    )
