"""Computes the speed on larger machines; no such machine was available.

A step consists of computing, reading and one all-reduce. The constants at the end are
assumptions about machines, not measurements. Replace them with those of your machines.
"""

import math
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import flops_per_image
from benchmarks.sections import table
from benchmarks.task import SIDE

FLOAT_BYTES = 4
CLASSES = 10
BATCHES = 1_024, 8_192, 65_536


@dataclass(frozen=True)
class Network:
    """The size of a network and its arithmetic."""

    name: str
    weights: int
    flops: float  # per image: forward and backward

    def message(self, batch: int) -> float:
        """Bytes that a step reduces: the gradient, logits and loss per example."""
        return FLOAT_BYTES * (self.weights + batch * (CLASSES + 1))


@dataclass(frozen=True)
class Link:
    """A ring; each member sends and receives at `bandwidth` simultaneously."""

    members: int
    bandwidth: float  # bytes per second and member
    latency: float  # seconds per message

    def all_reduce(self, size: float) -> float:
        """Seconds to all-reduce `size` bytes by a reduce-scatter and an all-gather.

        Source: Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002.
        """
        steps = 2 * (self.members - 1)
        return steps / self.members * size / self.bandwidth + steps * self.latency


@dataclass(frozen=True)
class Machine:
    """Equal devices, one process each, joined by nested rings."""

    name: str
    links: tuple[Link, ...]
    flops: float  # per second and device, sustained
    overhead: float  # seconds per step in addition to arithmetic
    read: float  # seconds to read an image in a device's process; 0 = all resident

    @property
    def devices(self) -> int:
        """The number of devices."""
        return math.prod(link.members for link in self.links)


def step_seconds(network: Network, machine: Machine, batch: int) -> tuple[float, float]:
    """Seconds of a step, with the message overlapped by computing, and without.

    Reading overlaps with computing in both.

    Args:
        network: the network to train.
        machine: the machine to train on.
        batch: examples per step on all devices together.
    """
    share = batch / machine.devices
    work = max(share * network.flops / machine.flops, share * machine.read)
    # Each link carries the whole message once. The devices of a host each reduce a
    # part of it; then all parts go to the other hosts through the host's one port.
    message = sum(link.all_reduce(network.message(batch)) for link in machine.links)
    return machine.overhead + max(work, message), machine.overhead + work + message


def efficiency(network: Network, machine: Machine, batch: int) -> tuple[float, float]:
    """Speed relative to one device, divided by the number of devices.

    With the message overlapped, and without. The one device computes the same batch
    and sends no message.
    """
    one = Machine("one", (), machine.flops, machine.overhead, machine.read)
    alone, _ = step_seconds(network, one, batch)
    best, worst = step_seconds(network, machine, batch)
    return alone / best / machine.devices, alone / worst / machine.devices


# ---- Assumptions ----
WEIGHTS = 824_458  # of `cnn` on 28 x 28 x 1 with ten classes
CNN = Network("cnn", WEIGHTS, flops_per_image("cnn", SIDE))
LARGE = Network("100 times cnn", 100 * WEIGHTS, 100 * flops_per_image("cnn", SIDE))
GPU_FLOPS = 30e12  # sustained: a fifth of a data-centre GPU's peak with TF32
OVERHEAD = 0.3e-3  # seconds: some dozen kernel launches, the optimizer, the metrics
READ = 1e-6  # seconds per random image of 784 bytes from the page cache; measured here
INSIDE = Link(8, 200e9, 5e-6)  # NVLink, per direction
BETWEEN = Link(64, 12.5e9, 10e-6)  # 100 Gbit/s, one port per host
MACHINES = (
    Machine("8 GPUs in one machine", (INSIDE,), GPU_FLOPS, OVERHEAD, read=0.0),
    Machine("64 hosts with 8 GPUs", (INSIDE, BETWEEN), GPU_FLOPS, OVERHEAD, READ),
)


def measure() -> dict[str, Any]:
    """Images/s and efficiency of each case: overlapped, not overlapped."""
    found = {}
    for network in (CNN, LARGE):
        for machine in MACHINES:
            for batch in BATCHES:
                best, worst = step_seconds(network, machine, batch)
                found[f"{network.name}; {machine.name}; {batch}"] = {
                    "images": (batch / best, batch / worst),
                    "efficiency": efficiency(network, machine, batch),
                }
    return found


def render(results: dict[str, Any]) -> str:
    """A row per network, machine and batch size."""
    head = [
        "network",
        "machine",
        "batch_size",
        "images/s, overlapped",
        "not overlapped",
        "efficiency, overlapped",
        "not overlapped",
    ]
    rows = []
    for case, row in results.items():
        network, machine, batch = case.split("; ")
        images = [f"{value:,.0f}" for value in row["images"]]
        shares = [f"{value:.1%}" for value in row["efficiency"]]
        rows.append([network, machine, f"{int(batch):,}", *images, *shares])
    return table(head, rows)
