"""Tensors on the wire: the same bits come out, and nothing unsound gets far enough to hurt."""

import json
import tracemalloc

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metafleet.contracts.codec import (
    Schema,
    check_digest,
    decode_tensors,
    encode,
    encoded_bytes,
    narrow,
    narrow_schema,
    schema_of,
    widen,
)
from metafleet.errors import ContractError

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]
PAIR: Schema = {"a": ("float32", (2,))}


def random_tensor(dtype: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (100 * torch.randn(shape, generator=generator, dtype=torch.float64)).abs().to(dtype)


def blob(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_every_dtype_come_back_bit_for_bit(dtype: torch.dtype) -> None:
    tensors = {
        "z.matrix": random_tensor(dtype, 3, 5),
        "a.scalar": random_tensor(dtype),
        "no.elements": random_tensor(dtype, 0, 4),
        "Łódź": random_tensor(dtype, 2, seed=1),
    }

    found = decode_tensors(encode(tensors).join(), schema_of(tensors))

    assert schema_of(found) == schema_of(tensors)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_not_a_number_and_signed_zero_keep_their_bits() -> None:
    tensors = {"a": torch.tensor([float("nan"), -0.0, float("inf"), 1e-45])}

    found = decode_tensors(encode(tensors).join(), schema_of(tensors))

    assert torch.equal(found["a"].view(torch.int32), tensors["a"].view(torch.int32))


def test_no_tensors_at_all_are_fine() -> None:
    assert decode_tensors(encode({}).join(), {}) == {}


def test_the_same_tensors_give_the_same_bytes_in_any_order_and_layout() -> None:
    a, b = random_tensor(torch.float32, 3, 4), random_tensor(torch.float32, 5, seed=1)

    assert encode({"a": a, "b": b}).join() == encode({"b": b, "a": a.t().contiguous().t()}).join()


def test_tensors_that_share_memory_travel_as_if_they_did_not() -> None:
    a = random_tensor(torch.float32, 4)
    tensors = {"tied": a, "to": a, "part": a[1:], "grown": a.expand(2, 4)}

    found = decode_tensors(encode(tensors).join(), schema_of(tensors))

    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_tensors_that_require_grad_can_be_sent() -> None:
    tensors = {"a": torch.ones(2, requires_grad=True)}

    assert not decode_tensors(encode(tensors).join(), PAIR)["a"].requires_grad


def test_bytes_cut_off_anywhere_are_refused() -> None:
    data = encode({"a": random_tensor(torch.float32, 2)}).join()

    for n_bytes in range(len(data)):
        with pytest.raises(ContractError, match=r"truncated|cannot be read"):
            decode_tensors(data[:n_bytes], PAIR)


@pytest.mark.parametrize("n_bytes", [1, 8, 4096])
def test_bytes_with_something_behind_them_are_refused(n_bytes: int) -> None:
    data = encode({"a": random_tensor(torch.float32, 2)}).join()

    with pytest.raises(ContractError, match="truncated or padded"):
        decode_tensors(data + bytes(n_bytes), PAIR)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"b": ("float32", (2,))}, r"missing \['b'\], unexpected \['a'\]"),
        ({**PAIR, "b": ("float32", (1,))}, r"missing \['b'\], unexpected \[\]"),
        ({}, r"missing \[\], unexpected \['a'\]"),
        ({"a": ("float32", (2, 1))}, r"'a' is float32 \[2\]; the model has float32 \[2, 1\]"),
        ({"a": ("int32", (2,))}, r"'a' is float32 \[2\]; the model has int32 \[2\]"),
        ({"a": ("float64", (1,))}, r"'a' is float32 \[2\]; the model has float64 \[1\]"),
    ],
)
def test_other_tensors_than_the_models_are_refused(schema: Schema, message: str) -> None:
    data = encode({"a": random_tensor(torch.float32, 2)}).join()

    with pytest.raises(ContractError, match=message):
        decode_tensors(data, schema)


@pytest.mark.parametrize(
    "data",
    [
        (2**60).to_bytes(8, "little") + b"{}",
        (2**64 - 1).to_bytes(8, "little") + b"{}",
        (9 * 2**20).to_bytes(8, "little") + bytes(9 * 2**20),
        blob({"a": entry(shape=[2**60])}, bytes(8)),
        blob({"a": entry(shape=[2**60], data_offsets=[0, 2**62])}, bytes(8)),
        blob({"a": entry(shape=[2**32, 2**32])}, bytes(8)),
        blob({"a": entry(data_offsets=[0, 2**63])}, bytes(8)),
    ],
)
@pytest.mark.parametrize("dim", [2, 2**60])
def test_a_header_that_promises_the_world_costs_nothing(data: bytes, dim: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ContractError):
            decode_tensors(data, {"a": ("float32", (dim,))})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2**20


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"\xff": 1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1e999]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, NaN]}}',
        {"a": 5},
        {"a": {}},
        {"a": [[0, 8]]},
        {"a": entry(data_offsets=[8])},
        {"a": entry(data_offsets="08")},
        {"a": entry(data_offsets=[4, 8])},
        {"a": entry(data_offsets=[8, 8])},
        {"a": entry(data_offsets=[-8, 8])},
        {"a": entry(shape=5)},
        {"a": entry(shape=None)},
        {"a": entry(shape="22")},
        {"a": entry(shape=[2.0])},
        {"a": entry(shape=[-2])},
        {"a": entry(dtype=["F32"])},
        {"a": entry(dtype="F99")},
        {"a": entry(extra=1), "__metadata__": 7},
    ],
)
def test_a_spoilt_header_is_refused_in_one_short_line(header: object) -> None:
    with pytest.raises(ContractError) as caught:
        decode_tensors(blob(header, bytes(8)), PAIR)

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(data=st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_random_bytes_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(ContractError):
        decode_tensors(data, PAIR)


@given(flips=st.dictionaries(st.integers(0, 200), st.integers(1, 255), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_sound_bytes_with_a_few_changed_are_refused_or_fit_the_model(flips: dict[int, int]) -> None:
    tensors = {"a": random_tensor(torch.float32, 2), "b": random_tensor(torch.int64, 3)}
    data = bytearray(encode(tensors).join())
    for position, change in flips.items():
        data[position % len(data)] ^= change

    try:
        found = decode_tensors(bytes(data), schema_of(tensors))
    except ContractError:
        return
    assert schema_of(found) == schema_of(tensors)


def test_a_digest_that_does_not_fit_names_what_was_damaged() -> None:
    check_digest(b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", what="x")

    with pytest.raises(ContractError, match=r"the sum of shard 3 hashes to af1349b9f5f9\.\.\."):
        check_digest(b"", "0" * 64, what="the sum of shard 3")


def test_what_is_encoded_is_safetensors_with_every_tensor_aligned() -> None:
    tensors = {f"t{i}": random_tensor(DTYPES[i % len(DTYPES)], i + 1, 3) for i in range(12)}

    data = encode(tensors).join()

    found = safetensors.torch.load(data)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    body = len(data) - max(entry["data_offsets"][1] for entry in header.values())
    assert all((body + header[name]["data_offsets"][0]) % 64 == 0 for name in tensors)
    assert len(data) == encoded_bytes(schema_of(tensors))


def test_writable_bytes_are_used_in_place_and_others_copied() -> None:
    data = bytearray(encode({"a": random_tensor(torch.float32, 2)}).join())

    decode_tensors(data, PAIR)["a"].zero_()
    decode_tensors(bytes(data), PAIR)["a"].fill_(7)

    assert torch.equal(decode_tensors(data, PAIR)["a"], torch.zeros(2))


def test_sound_tensors_laid_out_by_another_are_refused() -> None:
    tensors = {"a": torch.zeros(2), "b": torch.zeros(2)}

    with pytest.raises(ContractError, match="laid out in another way"):
        decode_tensors(safetensors.torch.save(tensors), schema_of(tensors))


def test_narrowed_tensors_are_half_as_long_and_widen_to_the_same_dtypes() -> None:
    tensors = {"a": random_tensor(torch.float32, 1000), "n": random_tensor(torch.int64, 3)}
    schema = schema_of(tensors)

    sent = narrow(tensors, "bfloat16")
    found = widen(decode_tensors(encode(sent).join(), narrow_schema(schema, "bfloat16")), schema)

    assert schema_of(found) == schema
    assert torch.equal(found["n"], tensors["n"])
    assert torch.allclose(found["a"], tensors["a"], rtol=2**-8)
    assert not torch.equal(found["a"], tensors["a"])
    assert narrow(tensors, "float32")["a"] is tensors["a"]
