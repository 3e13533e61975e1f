"""Broadcasts between processes, and stages that refuse several processes."""

import jax
import numpy as np
import pytest

from src.errors import ParameterError, StorageError
from src.runtime import processes
from src.runtime.launch import check_alone
from src.runtime.processes import broadcast, check_same, peer_errors
from src.sharding import on_all_devices
from tests.helpers.groups import SHORT, Group, patched
from tests.helpers.running import run_stage


@pytest.fixture
def second_of_two(become_process, monkeypatch):
    """Simulates process 1; the test supplies the content from process 0."""
    become_process(1, 2)
    messages = {}
    monkeypatch.setattr(
        "jax.experimental.multihost_utils.process_allgather",
        lambda own: np.stack([messages["numbers"], own]),
    )
    monkeypatch.setattr(
        "jax.experimental.multihost_utils.broadcast_one_to_all",
        lambda own: messages["content"],
    )
    return messages


@pytest.mark.parametrize("content", [b"", b"another run", b"x" * 1000])
def test_shared_content_comes_from_process_0(second_of_two, content):
    second_of_two["numbers"] = np.array([0, len(content)], np.int32)
    second_of_two["content"] = np.frombuffer(content, np.uint8)
    assert broadcast(b"mine") == content


def test_shared_content_may_exceed_the_size_of_a_message(become_process, monkeypatch):
    become_process(0, 2)
    sizes = []

    def all_max(*numbers):
        sizes.extend(numbers)
        assert max(numbers) < 1 << 31
        raise KeyboardInterrupt  # before three gigabytes are asked for

    monkeypatch.setattr(processes, "all_max", all_max)

    class Large(bytes):
        def __len__(self):
            return 3 << 30

    with pytest.raises(KeyboardInterrupt):
        broadcast(Large())
    assert sizes == [3, 0]


FOREIGN = (  # after the digest of "abc"
    r"^expected the run of process 0 \(ba7816bf8f01\.\.\.\), "
    r"found run [0-9a-f]{12}\.\.\.: commit, "
)


def test_process_of_another_run_is_refused(second_of_two):
    second_of_two["numbers"] = np.array([0, 3], np.int32)
    second_of_two["content"] = np.frombuffer(b"abc", np.uint8)
    check_same("abc")
    with pytest.raises(ParameterError, match=FOREIGN):
        check_same("abd")


@pytest.mark.slow
def test_process_with_other_parameters_ends_all_and_writes_nothing(
    prepared, write_params
):
    write_params(**SHORT)
    line = (
        "import src.config.load as c; m = c.load_params; "
        "c.load_params = lambda p: m(p).model_copy(update={'lr': 0.5})"
    )
    with Group(prepared, patched(line)) as group:
        codes = group.wait()
        assert codes[1] == 2, group.err(1)
        assert codes[0] != 0
        assert "expected the run of process 0" in group.err(1)
    assert not (prepared / "models").exists()


class JaxRuntimeError(RuntimeError):
    """Named as JAX's own."""


@pytest.mark.parametrize(
    "error",
    [
        JaxRuntimeError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer"),
        JaxRuntimeError("UNAVAILABLE: Socket closed"),
        JaxRuntimeError("DEADLINE_EXCEEDED: Barrier timed out"),
        ValueError("UNKNOWN: Gloo AllGather failed: timed out"),
    ],
)
def test_lost_message_is_reported_in_one_line(become_process, error):
    become_process(1, 2)
    with pytest.raises(StorageError, match="found one lost"), peer_errors():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
        JaxRuntimeError("INVALID_ARGUMENT: shapes differ"),
        ValueError("too many values to unpack"),
    ],
)
def test_other_faults_are_not_called_a_lost_process(become_process, error):
    become_process(1, 2)
    with pytest.raises(type(error)), peer_errors():
        raise error


@pytest.mark.parametrize("stage", ["repeat", "lr_range"])
def test_stages_other_than_train_refuse_several_processes(
    prepared, write_params, stage
):
    write_params()
    environment = {
        "FOURBEAT_COORDINATOR": "localhost:1",
        "FOURBEAT_PROCESSES": "2",
        "FOURBEAT_PROCESS_ID": "0",
    }
    result = run_stage(stage, prepared, **environment)
    assert result.returncode == 2
    assert "expected one process, found several: only stages.train" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_run_of_one_process_is_accepted(monkeypatch):
    monkeypatch.setenv("FOURBEAT_COORDINATOR", "localhost:1")
    monkeypatch.setenv("FOURBEAT_PROCESSES", "1")
    monkeypatch.setenv("FOURBEAT_PROCESS_ID", "0")
    check_alone()
    processes.init_distributed()
    assert processes.is_single_process()


def test_processes_with_unequal_numbers_of_devices_are_refused(monkeypatch, params):
    class Device:
        process_index, id = 0, 0

    monkeypatch.setattr(jax, "devices", lambda: [Device()] * 3)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    batch = params.model_copy(update={"batch_size": 48})
    with pytest.raises(ParameterError, match="the same number in each of 2 processes"):
        on_all_devices(batch)
