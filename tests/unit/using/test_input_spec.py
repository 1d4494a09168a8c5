"""How prepared arrays are read from files again."""

import pytest

from metafleet.data.prepared import ArrayInfo
from metafleet.errors import ConfigError, ModelError
from metafleet.using.input_spec import InputSpec


def info(kind: str, *shape: int) -> ArrayInfo:
    return ArrayInfo("uint8", (7, *shape), 0, "", 7, kind)


def test_grey_arrays_without_channels_are_ink_on_black() -> None:
    found = InputSpec.of(info("image", 28, 28), {})

    assert (found.shape, found.is_inverted) == ((1, 28, 28), True)
    assert (found.options["side"], found.options["channels"]) == (28, 1)


def test_sizes_come_from_the_array_and_the_rest_from_the_options() -> None:
    found = InputSpec.of(info("image", 3, 16, 16), {"fit": "pad"})

    assert not found.is_inverted
    assert found.options == {"side": 16, "channels": 3, "fit": "pad"}
    assert InputSpec.from_json("image", found.to_json()) == found


def test_an_array_that_no_decoder_makes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shape \[3, 16, 20\] are not made by the decoder"):
        InputSpec.of(info("image", 3, 16, 20), {})


def test_another_version_of_a_decoder_is_refused() -> None:
    values = InputSpec.of(info("image", 3, 16, 16), {}).to_json()

    with pytest.raises(ModelError, match="version 99 of the decoder of image"):
        InputSpec.from_json("image", values | {"version": 99})
