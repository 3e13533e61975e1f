"""The computed speed on larger machines, against numbers computed by hand."""

import itertools

import numpy as np
import pytest

from benchmarks.paper import (
    CNN,
    LARGE,
    MACHINES,
    WEIGHTS,
    Link,
    Machine,
    Network,
    efficiency,
    step_seconds,
)

# 1,000 images take 1 s. Their message has 4 * (749_989_000 + 11_000) = 3e9 bytes.
NETWORK = Network("a network", 749_989_000, 1e9)


def machine(*links, overhead=0.0, read=0.0):
    return Machine("a machine", links, 1e12, overhead, read)


def test_one_device_has_efficiency_one():
    alone = machine(Link(1, 1.0, 1.0), overhead=0.5, read=1e-3)
    assert efficiency(NETWORK, alone, 1000) == (1.0, 1.0)


def test_two_devices_take_the_time_computed_by_hand():
    # 0.5 s of work. Each device sends half of the message twice: 3 s at 1 GB/s, plus
    # the latency of two messages, 0.25 s each.
    two = machine(Link(2, 1e9, 0.25), overhead=0.1)
    best, worst = step_seconds(NETWORK, two, 1000)
    assert best == pytest.approx(0.1 + 3.5)
    assert worst == pytest.approx(0.1 + 0.5 + 3.5)
    assert efficiency(NETWORK, two, 1000) == pytest.approx(
        (1.1 / 3.6 / 2, 1.1 / 4.1 / 2)
    )


def test_a_ring_sends_as_many_bytes_as_a_simulated_one():
    """Four members pass parts on until each has the whole sum."""
    members, size = 4, 400
    rng = np.random.default_rng(0)
    parts = rng.integers(100, size=(members, members, size // members))
    total, sent = parts.sum(0), 0
    for phase, combine in (("reduce", True), ("gather", False)):
        for step in range(members - 1):
            before = parts.copy()
            sent += size // members
            for member in range(members):
                shift = -step if phase == "reduce" else 1 - step
                place = (member + shift) % members
                right = (member + 1) % members
                own = parts[right, place] if combine else 0
                parts[right, place] = own + before[member, place]
    assert (parts == total).all()
    assert Link(members, bandwidth=1.0, latency=0.0).all_reduce(size) == sent


def test_reading_limits_the_speed_if_it_takes_longer_than_computing():
    two = machine(Link(2, 1e30, 0.0), read=2e-3)
    assert step_seconds(NETWORK, two, 1000) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("network", [CNN, LARGE])
@pytest.mark.parametrize("devices", [2, 8, 512])
def test_more_bandwidth_is_never_worse(network, devices):
    found = [
        efficiency(network, machine(Link(devices, bandwidth, 1e-5)), 8192)
        for bandwidth in 10.0 ** np.arange(6, 14)
    ]
    for slower, faster in itertools.pairwise(found):
        assert faster[0] >= slower[0]
        assert faster[1] >= slower[1]
        assert 0 < faster[1] <= faster[0] <= 1


def test_assumed_weight_count_is_that_of_the_network():
    import jax
    from flax import nnx

    from src.models.architecture import Architecture
    from src.models.build import build_model

    architecture = Architecture("cnn", 256, 0.0, (28, 28, 1), classes=10)
    model = nnx.eval_shape(lambda: build_model(architecture, nnx.Rngs(params=0)))
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == WEIGHTS


def test_machines_have_as_many_devices_as_their_names_say():
    assert [each.devices for each in MACHINES] == [8, 512]
