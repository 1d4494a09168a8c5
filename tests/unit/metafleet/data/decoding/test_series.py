"""Time series from every format, at one length, and what is said of broken ones."""

import io
import zipfile

import numpy as np
import pytest

from metafleet.data.decoding.series import SeriesDecoder, SeriesOptions, pad, resample, standardise
from metafleet.errors import ConfigError, DecodeError
from tests.unit.metafleet.data.decoding.samples import npy

RNG = np.random.default_rng(11)
VALUES = RNG.standard_normal((10, 2)).round(3)
DECODER = SeriesDecoder()
AS_IT_IS = {"length": 10, "channels": 2, "scale": "none"}
TS = """# of sktime
@problemName motion
@univariate false
@classLabel true walk run
@data
"""


def csv(values: np.ndarray = VALUES, mark: str = ",") -> bytes:
    return "\n".join(mark.join(map(str, row)) for row in values.tolist()).encode()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def ts(values: np.ndarray = VALUES, *, cases: int = 1) -> bytes:
    case = ":".join(",".join(map(str, column)) for column in values.T.tolist())
    return (TS + f"{case}:walk\n" * cases).encode()


def decode(source: bytes, **options: object) -> np.ndarray:
    chosen = SeriesOptions(**options)  # type: ignore[arg-type]
    found = DECODER.decode(source, chosen)
    assert (found.dtype, found.shape) == DECODER.example(chosen)
    return found


FORMATS = {
    "csv": csv(),
    "csv with a header and CRLF": b"left,right\r\n" + csv().replace(b"\n", b"\r\n"),
    "csv with semicolons": csv(mark=";"),
    "csv with tabs": csv(mark="\t"),
    "csv with spaces and a byte order mark": b"\xef\xbb\xbf" + csv(mark="  "),
    "npy": npy(VALUES),
    "npy by column": npy(np.asfortranarray(VALUES)),
    "npz": npz(anything=VALUES),
    "npz of several": npz(series=VALUES, label=np.array(3)),
    "ts": ts(),
    "ts without a class": ts().replace(b"true walk run", b"false").replace(b":walk", b""),
}


@pytest.mark.parametrize("source", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_values(source: bytes) -> None:
    np.testing.assert_array_equal(decode(source, **AS_IT_IS), VALUES.astype(np.float32))


def test_one_channel_needs_no_second_axis() -> None:
    expected = VALUES[:, :1].astype(np.float32)

    for source in (npy(VALUES[:, 0]), csv(VALUES[:, :1])):
        np.testing.assert_array_equal(decode(source, length=10, scale="none"), expected)


def test_a_longer_series_becomes_means_of_equal_shares_and_a_shorter_one_lines() -> None:
    steps = np.arange(6.0)[:, None]

    np.testing.assert_allclose(resample(steps, 3), [[0.5], [2.5], [4.5]])
    np.testing.assert_allclose(resample(steps, 4)[:, 0], [1 / 3, 5 / 3, 10 / 3, 14 / 3])
    np.testing.assert_allclose(resample(steps[:3], 5), [[0.0], [0.5], [1.0], [1.5], [2.0]])
    np.testing.assert_allclose(resample(steps[2:3], 2), [[2.0], [2.0]])


def test_what_is_quicker_than_the_new_length_shows_does_not_become_slow() -> None:
    quick = np.sin(2 * np.pi * 0.49 * np.arange(1000))[:, None]

    assert np.abs(resample(quick, 50)).max() < 0.1 < np.abs(quick[::20]).max()


def test_padding_keeps_the_beginning_and_adds_zeros() -> None:
    np.testing.assert_array_equal(pad(VALUES, 4), VALUES[:4])
    padded = decode(npy(VALUES), length=12, channels=2, mode="pad", scale="none")

    np.testing.assert_array_equal(padded[:10], VALUES.astype(np.float32))
    assert not padded[10:].any()


def test_each_channel_is_standardised_and_one_that_stands_still_is_zero() -> None:
    found = standardise(np.column_stack([1e6 + VALUES[:, 0], np.full(10, 0.1)]))

    np.testing.assert_allclose(found[:, 0].mean(), 0.0, atol=1e-6)
    np.testing.assert_allclose(found[:, 0].std(), 1.0, rtol=1e-6)
    assert not found[:, 1].any()


def _zip_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _promising() -> bytes:
    """An npy of a few bytes whose header promises 32 TiB."""
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 4)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + b"\0" * 64


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "a header alone": (b"left,right\n", "is empty"),
    "a gap": (b"1,2\n3,nan\n", "channel 1 at time 1 is nan; expected a finite"),
    "an empty cell": (b"1,2\n3,\n", "channel 1 at time 1 is ''; expected a number"),
    "gaps in the first row": (b"NA,?\n1,2\n", "channel 0 at time 0 is 'NA'"),
    "a word": (b"1,2\nthree,4\n", "channel 0 at time 1 is 'three'"),
    "beyond float32": (b"1,2\n1e39,4\n", "channel 0 at time 1 is 1e\\+39"),
    "ragged rows": (b"1,2\n3\n", "the row of time 1 has 1 values; the first one has 2"),
    "another number of channels": (b"1,2,3\n4,5,6\n", "has 3 channels; expected 2"),
    "no text": (b"\xff\xfe\x00\x01", "is no csv, npy, npz or ts"),
    "an array of three axes": (npy(np.zeros((2, 3, 4))), r"array \[2, 3, 4\]; expected \[time\]"),
    "an array of no times": (npy(np.zeros((0, 2))), r"array \[0, 2\]"),
    "a number alone": (npy(np.array(1.0)), r"array \[\]"),
    "an array of texts": (npy(np.array([["a", "b"]])), "does not fit"),
    "a cut array": (npy(VALUES)[:-8], "does not fit"),
    "a header that promises much": (_promising(), "does not fit"),
    "an array with a gap": (npy(np.where(VALUES > 1e9, 0, np.inf)), "at time 0 is inf"),
    "an npz of several": (npz(a=VALUES, b=VALUES), "has 2 arrays; expected one"),
    "a cut npz": (npz(a=VALUES)[:-30], "npz cannot be read"),
    "an npz of no array": (_zip_of("a.npy", b"hello"), "array cannot be read"),
    "a ts of several cases": (ts(cases=3), "has 3 cases; expected one"),
    "a ts of channels of unlike length": (
        TS.encode() + b"1,2,3:4,5:walk\n",
        r"have lengths \[2, 3\]",
    ),
    "a ts with a gap": (TS.encode() + b"1,?,3:4,5,6:walk\n", "channel 0 at time 1 is '\\?'"),
    "a ts with time stamps": (ts().replace(b"@data", b"@timeStamps true\n@data"), "time stamps"),
}


@pytest.mark.parametrize(("source", "message"), BAD.values(), ids=BAD)
def test_a_broken_series_is_one_line(source: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message) as caught:
        decode(source, length=10, channels=2)

    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_an_npz_that_unpacks_to_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metafleet.data.decoding.series.MAX_SOURCE_BYTES", 1 << 16)

    with pytest.raises(DecodeError, match="has more than 65536 bytes"):
        decode(npz(a=np.zeros((1 << 14, 2))), channels=2)


@pytest.mark.parametrize("options", [{"length": 1}, {"length": 1 << 17}, {"channels": 0}])
def test_an_option_out_of_range_is_named(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}="):
        SeriesOptions(**options)  # type: ignore[arg-type]
