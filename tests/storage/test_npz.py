"""Hostile npz files: refused without running code or filling the memory."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.errors import DataError
from src.storage.lazy_npz import LazyArray, locate_arrays
from src.storage.npz import pack_arrays, read_arrays, unpack_arrays
from tests.helpers.files import write_arrays
from tests.helpers.fuzz_npz import seeds, try_to_read, whole_arrays, wrapped
from tests.helpers.imports import ROOT
from tests.helpers.running import prepare_measured

SHAPES = [(), (0,), (3,), (2, 3), (1, 2, 3, 4, 5)]
TYPES = ["?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8"]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", TYPES)
def test_files_of_numpy_are_read_as_by_numpy(tmp_path, dtype, save, order):
    path = tmp_path / "arrays.npz"
    rng = np.random.default_rng(0)
    arrays = {
        f"a{number}/b.c": np.asarray(
            rng.integers(0, 100, shape).astype(dtype), order=order
        )
        for number, shape in enumerate(SHAPES)
    }
    save(path, **arrays)
    with np.load(path) as expected:
        for found in (read_arrays(path, ""), whole_arrays(path)):
            assert list(found) == expected.files
            for name in expected.files:
                assert found[name].dtype == expected[name].dtype
                np.testing.assert_array_equal(found[name], expected[name])


def test_only_compressed_and_column_major_arrays_are_read_into_memory(tmp_path):
    path = tmp_path / "arrays.npz"
    rows = np.arange(12, dtype=">i4").reshape(3, 4)
    np.savez(path, rows=rows, columns=np.asfortranarray(rows))
    found = locate_arrays(path, "")
    assert isinstance(found["rows"], LazyArray)
    assert (found["rows"].dtype, found["rows"].shape) == (rows.dtype, (3, 4))
    assert path.read_bytes()[found["rows"].offset :].startswith(rows.tobytes())
    assert isinstance(found["columns"], np.ndarray)
    np.savez_compressed(path, rows=rows)
    assert isinstance(locate_arrays(path, "")["rows"], np.ndarray)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["<U7", ">U7", "S7"])
def test_text_is_read_only_on_request(tmp_path, save, kind):
    path, names = tmp_path / "arrays.npz", np.array(["a", "bcd", "efghijk"], kind)
    save(path, names=names)
    found = locate_arrays(path, "Recreate it.", text=True)["names"]
    read = found.read() if isinstance(found, LazyArray) else found
    np.testing.assert_array_equal(read, names)
    with pytest.raises(DataError, match=r"'names\.npy' with .*not an array of numbers"):
        locate_arrays(path, "Recreate it.")
    with pytest.raises(DataError, match="not an array of numbers"):
        read_arrays(path, "Recreate it.")


def test_located_file_of_another_digest_or_checksum_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    sha256 = write_arrays(path, {"x": np.arange(100)})
    assert locate_arrays(path, "", sha256)["x"].read().tolist() == list(range(100))
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="expected SHA-256"):
        locate_arrays(path, "", sha256)
    with pytest.raises(DataError, match="Bad CRC-32"):
        locate_arrays(path, "")


def packed(name="images.npy", content=b"", compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
    return buffer.getvalue()


def npy(descr="'|u1'", shape="(4,)", data=b"1234", version=b"\1\0", fortran="False"):
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header.encode() + data


class Canary:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return (os.system, ("touch canary",))


def with_objects():
    buffer = io.BytesIO()
    np.savez(buffer, images=np.array([Canary()], object), labels=np.array([0]))
    return buffer.getvalue()


def million_members():
    plain = packed("a.npy", npy())
    begin, end = plain.rindex(b"PK\1\2"), plain.rindex(b"PK\5\6")
    many = plain[begin:end] * 1_000_000
    return plain[:begin] + many + end_of(65535, len(many), begin)


def end_of(members, size, begin):
    """The record that a zip ends with."""
    numbers = 0, 0, members, members, size, begin, 0
    return struct.pack(zipfile.structEndArchive, zipfile.stringEndArchive, *numbers)


def beyond_all():
    """A member whose zip64 field claims the offset 2^63."""
    plain = packed("a.npy", npy())
    begin, end = plain.rindex(b"PK\1\2"), plain.rindex(b"PK\5\6")
    entry = bytearray(plain[begin:end])
    entry[30:32] = struct.pack("<H", 12)  # the length of the extra field
    entry[42:46] = b"\xff" * 4  # the offset: see there
    entry += struct.pack("<HHQ", 1, 8, 1 << 63)
    return plain[:begin] + bytes(entry) + end_of(1, len(entry), begin)


def overlapping():
    """A thousand names for the same megabyte: a bomb without any compression."""
    plain = packed("0000.npy", npy(shape="(1000000,)", data=bytes(1_000_000)))
    begin, end = plain.rindex(b"PK\1\2"), plain.rindex(b"PK\5\6")
    entry = plain[begin:end]
    many = b"".join(entry.replace(b"0000", b"%04d" % n) for n in range(1000))
    return plain[:begin] + many + end_of(1000, len(many), begin)


def bomb():
    """A gigabyte of zeros in a megabyte."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w") as member,
    ):
        member.write(npy(shape=f"({1 << 30},)", data=b""))
        for _ in range(1 << 10):
            member.write(bytes(1 << 20))
    return buffer.getvalue()


def two_sizes():
    """An uncompressed member that claims to extend into the next one."""
    plain = packed("a.npy", npy(shape="(40,)", data=b"1234"))
    begin = plain.rindex(b"PK\1\2")
    size = struct.unpack_from("<I", plain, begin + 24)[0]
    return plain[: begin + 24] + struct.pack("<I", size + 36) + plain[begin + 28 :]


def header_of_another():
    """The file's own header names another member than the directory."""
    return packed("a.npy", npy()).replace(b"a.npy", b"b.npy", 1)


HOSTILE = {
    "two sizes": (two_sizes, ""),
    "another header": (header_of_another, "differ"),
    "objects": (with_objects, "header|with"),
    "pickle": (lambda: pickle.dumps(Canary()), "not a zip file"),
    "HTML": (lambda: b"<html>404</html>", "not a zip file"),
    "empty": (lambda: b"", "not a zip file"),
    "bomb": (bomb, "claim to hold 10737"),
    "overlap": (overlapping, "bytes instead of 1000[0-9]+ "),
    "million members": (million_members, "directory of more than 4194304 bytes"),
    "4 TiB": (lambda: packed(content=npy(shape=f"({1 << 42},)")), "4 bytes for the s"),
    "8 GiB": (
        lambda: packed(content=npy(shape=f"({1 << 33},)"), compression=8),
        "4 bytes for the shape",
    ),
    "zero times huge": (
        lambda: packed(content=npy(shape=f"(0, {1 << 62}, {1 << 62})", data=b"")),
        "",
    ),
    "negative": (lambda: packed(content=npy(shape="(-2, -2)")), "with"),
    "huge number": (lambda: packed(content=npy(shape=f"({'9' * 800},)")), "4 bytes"),
    "long header": (lambda: packed(content=npy(shape="(" + "1," * 9000 + ")")), "1.0"),
    "deep header": (lambda: packed(content=npy(shape="(" * 400)), "with"),
    "version 3": (
        lambda: packed(content=b"\x93NUMPY\3\0\xff\xff\xff\xff{"),
        "not in npy format 1",
    ),
    "structured": (lambda: packed(content=npy(descr="[('a', '|u1')]")), "with"),
    "text": (lambda: packed(content=npy(descr="'<U1'")), "with"),
    "code": (
        lambda: packed(content=npy(shape="(__import__('os').system('touch canary'),)")),
        "with",
    ),
    "parent": (lambda: packed("../images.npy", npy()), "a file named '../images.npy'"),
    "absolute": (lambda: packed("/tmp/images.npy", npy()), "a file named '/tmp/ima"),
    "no name": (lambda: packed(".npy", npy()), "a file named '.npy'"),
    "other file": (lambda: packed("setup.py", b"import os"), "a file named 'setup.py'"),
    "bzip2": (
        lambda: packed(content=npy(), compression=zipfile.ZIP_BZIP2),
        "an unknown compression",
    ),
    "an offset beyond all": (beyond_all, ""),
    "a prefix": (lambda: bytes(9 << 20) + packed(content=npy()), "bytes instead of"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param("bomb", marks=pytest.mark.slow), *sorted(HOSTILE.keys() - {"bomb"})],
)
def test_hostile_file_is_refused_with_a_reason(tmp_path, name):
    make, reason = HOSTILE[name]
    path = tmp_path / "train.npz"
    path.write_bytes(make())
    for read in (read_arrays, locate_arrays):
        with pytest.raises(DataError, match=f"expected an npz .*, found .*{reason}"):
            read(path, "Recreate it.")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", npy())
        archive.writestr("a.npy", npy())
    with pytest.raises(DataError, match="two arrays of the same name"):
        unpack_arrays(Path("x.npz"), buffer.getvalue(), "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["objects", "bomb", "overlap", "million members", "4 TiB", "8 GiB", "code"]
)
def test_hostile_data_set_costs_no_memory_and_runs_nothing(
    tmp_path, write_params, name
):
    write_params(dataset="npz", data_path=tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.npz").write_bytes(HOSTILE[name][0]())
    result, kilobytes = prepare_measured(tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (3, 1), result.stderr
    assert kilobytes < 100_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "params.yaml"]


def test_ten_thousand_arrays_are_read(tmp_path):
    path = tmp_path / "many.npz"
    arrays = {
        f"layers/{number:05}.kernel": np.array(number) for number in range(10_000)
    }
    sha256 = write_arrays(path, arrays)
    assert read_arrays(path, "", sha256) == arrays


def test_arrays_are_read_only(tmp_path):
    write_arrays(tmp_path / "a.npz", {"x": np.zeros(3)})
    with pytest.raises(ValueError, match="read-only"):
        read_arrays(tmp_path / "a.npz", "")["x"][0] = 1


def spoiled(draw_bytes, positions, values):
    content = bytearray(draw_bytes)
    for position, value in zip(positions, values, strict=False):
        content[position % len(content)] = value
    return bytes(content)


SPOILED = st.builds(
    spoiled,
    st.sampled_from(seeds()),
    st.lists(st.integers(0, 2000), max_size=6),
    st.lists(st.integers(0, 255), min_size=6, max_size=6),
)


@settings(max_examples=2000, deadline=None, database=None, derandomize=True)
@given(st.one_of(SPOILED, st.binary(max_size=300)))
def test_fuzzed_file_is_refused_or_gives_arrays_of_numbers(content):
    try_to_read(wrapped(content))


def test_fuzzing_seeds_are_valid_files():
    assert all(try_to_read(wrapped(content)) for content in seeds())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not built for it")
def test_coverage_guided_fuzzing_finds_no_error(tmp_path):
    result = subprocess.run(
        [
            *(sys.executable, "-m", "tests.helpers.fuzz_npz", "-runs=30000"),
            "-rss_limit_mb=0",  # it counts the memory of the process that forked it
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Done 30000 runs" in result.stderr


def test_same_arrays_give_the_same_bytes():
    arrays = {"b": np.arange(3), "a": np.ones((2, 2), np.float32)}
    assert bytes(pack_arrays(arrays)) == bytes(pack_arrays(arrays))
