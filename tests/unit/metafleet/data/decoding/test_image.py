"""Pictures become pixels of one size."""

import numpy as np
from PIL import Image

from tests.unit.metafleet.data.decoding.samples import (
    decode,
    picture,
    png,
)

RNG = np.random.default_rng(7)
COLOURS = RNG.integers(0, 256, (48, 64, 3), np.uint8)


def test_a_picture_of_the_right_size_keeps_its_pixels():
    square = COLOURS[:, :48]

    np.testing.assert_array_equal(decode("image", png(square), side=48), square.transpose(2, 0, 1))
    np.testing.assert_array_equal(
        decode("image", png(square[..., 0]), side=48, channels=1)[0], square[..., 0]
    )


def test_a_picture_is_cropped_padded_or_stretched():
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200

    assert (decode("image", png(wide), side=8) == 200).all()
    padded = decode("image", png(wide), side=16, fit="pad")
    assert (padded[:, :4] == 255).all() and (padded[:, 12:] == 255).all()
    assert (padded[:, 4:12, 4:12] == 200).all() and (padded[:, 4:12, :4] == 0).all()
    stretched = decode("image", png(wide), side=16, fit="stretch")
    assert (stretched[:, :, 6:10] == 200).all() and (stretched[:, :, 0] == 0).all()


def test_transparency_palettes_and_depth_become_plain_pixels():
    clear = np.zeros((4, 4, 4), np.uint8)
    deep = np.full((4, 4), 65535, np.uint16)
    palette = picture(Image.fromarray(COLOURS).quantize(16), "GIF")

    assert (decode("image", png(clear), side=4) == 255).all()
    assert (decode("image", picture(Image.fromarray(deep), "PNG"), side=4) == 255).all()
    assert decode("image", palette, side=32).std() > 20


def test_a_photograph_is_turned_as_its_camera_noted():
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4] = 255
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down

    row = decode("image", picture(Image.fromarray(upright[::-1, ::-1]), "PNG", exif=turned), side=8)

    assert (row[:, :4] == 255).all() and (row[:, 4:] == 0).all()
