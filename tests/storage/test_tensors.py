"""Safetensors: the same arrays give the same bytes, and malformed files are refused."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import DataError
from src.storage.reading import digest
from src.storage.tensors import pack_tensors, read_tensors, unpack_tensors

FILE = Path("some.safetensors")
REPAIR = "Save it again."
ARRAYS = {
    "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "transposed": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "strided": np.arange(12)[::3],
    "scalar": np.array(7, np.int32),
    "empty": np.zeros((0, 3), np.float16),
    "booleans": np.array([True, False]),
    "count": np.array([3], np.uint32),
    "not finite": np.array([np.nan, -np.inf, -0.0]),
    "big endian": np.arange(5, dtype=">f4"),
}


def test_arrays_are_read_back_to_the_bit():
    found = unpack_tensors(FILE, pack_tensors(ARRAYS), REPAIR)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.astype(found[name].dtype).tobytes()


def test_bytes_do_not_depend_on_the_order_of_the_arrays():
    content = pack_tensors(ARRAYS)
    assert pack_tensors(dict(reversed(ARRAYS.items()))) == content
    assert b"__metadata__" not in content


def safetensors(header, data=b""):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + data


def array(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


MALFORMED = {
    "empty": b"",
    "short": b"\1\0",
    "header longer than the file": struct.pack("<Q", 1 << 62) + b"{}",
    "not JSON": safetensors(b"{"),
    "deep JSON": safetensors(b"[" * 100_000),
    "a list": safetensors([]),
    "dtype that numpy lacks": safetensors({"a": array("BF16", [1], 0, 2)}, b"12"),
    "unknown dtype": safetensors({"a": array("Z" * 10**6, [1], 0, 2)}, b"12"),
    "shape beyond the bytes": safetensors({"a": array("F32", [9], 0, 4)}, b"1234"),
    "shape that overflows": safetensors({"a": array("F32", [1 << 33] * 2, 0, 0)}),
    "empty, but too large": safetensors({"a": array("F32", [0, 1 << 62], 0, 0)}),
    "a hundred dimensions": safetensors({"a": array("U8", [1] * 100, 0, 1)}, b"1"),
    "a negative size": safetensors({"a": array("U8", [-1], 0, 1)}, b"1"),
    "overlap": safetensors(
        {"a": array("U8", [2], 0, 2), "b": array("U8", [2], 1, 3)}, b"123"
    ),
    "bytes left over": safetensors({"a": array("U8", [2], 0, 2)}, b"123"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_file_is_refused_in_one_line(name):
    with pytest.raises(DataError) as caught:
        unpack_tensors(FILE, MALFORMED[name], REPAIR)
    message = str(caught.value)
    assert message.startswith("some.safetensors: expected safetensors, found ")
    assert message.endswith(". Save it again.")
    assert len(message) < 300
    assert "\n" not in message


@given(st.integers(min_value=0), st.integers(0, 255), st.integers(0, 300))
def test_changed_header_gives_an_error_or_arrays_within_the_file(place, byte, cut):
    content = bytearray(pack_tensors(ARRAYS))
    content[place % len(content)] = byte
    try:
        found = unpack_tensors(FILE, bytes(content[: len(content) - cut]), REPAIR)
    except DataError:
        return
    assert sum(each.nbytes for each in found.values()) <= len(content)


def test_digest_is_compared_before_the_file_is_parsed(tmp_path):
    path = tmp_path / "some.safetensors"
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(DataError, match="expected SHA-256"):
        read_tensors(path, REPAIR, digest(pack_tensors(ARRAYS)))
