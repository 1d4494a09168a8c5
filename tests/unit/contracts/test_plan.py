"""Items to encode travel with every dtype that a decoder may give."""

import numpy as np
import pytest

from metafleet.contracts.codec import decode_tensors, encode
from metafleet.contracts.plan import EncodingPlan
from metafleet.encoders.choice import EncoderName


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize("dtype", ["u1", "<i2", "<u2", "<u4", "<f2", "<f8", ">f4", "?"])
def test_items_come_as_they_were_sent(dtype: str, shape: tuple[int, ...]) -> None:
    items = np.random.default_rng(3).integers(0, 200, (7, *shape)).astype(dtype)
    sent = EncodingPlan(EncoderName("own", "own:Own"), {}, items.dtype.str, shape, 4)
    plan = EncodingPlan.from_bytes(sent.to_bytes())

    data = encode(sent.pack_items(items)).join()
    found = plan.unpack_items(decode_tensors(data, plan.items_schema(7)))

    assert found.dtype == items.dtype
    np.testing.assert_array_equal(found, items)
