"""Rows become numbers."""

import numpy as np

from tests.unit.metafleet.data.decoding.samples import (
    decode,
)


def test_a_row_of_a_table_is_commas_or_json():
    np.testing.assert_array_equal(decode("table", b"1, -2.5e1 ,3", width=3), [1, -25, 3])
    np.testing.assert_array_equal(decode("table", b"[1, -25, 3.0]", width=3), [1, -25, 3])
