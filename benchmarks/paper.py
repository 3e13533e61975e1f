"""What more devices would give, on paper: no such machine was at hand.

A step is computing, reading and one all-reduce. The constants below are assumptions
about machines, not measurements; whoever has other machines puts in other numbers.
"""

import math
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import flops_per_image
from benchmarks.sections import table

FLOAT = 4  # bytes
CLASSES = 10
BATCHES = 1_024, 8_192, 65_536


@dataclass(frozen=True)
class Network:
    """What a step costs in arithmetic and in bytes."""

    name: str
    weights: int
    flops: float  # per image: forward and backward

    def message(self, batch: int) -> float:
        """Bytes that a step sums: the gradient, and per example logits and loss."""
        return FLOAT * (self.weights + batch * (CLASSES + 1))


@dataclass(frozen=True)
class Link:
    """A ring of so many members; each sends and receives at `bandwidth` at once."""

    members: int
    bandwidth: float  # bytes per second, of a member
    latency: float  # seconds per message

    def all_reduce(self, size: float) -> float:
        """Seconds to sum `size` bytes: a reduce-scatter and an all-gather.

        Source: Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002.
        """
        steps = 2 * (self.members - 1)
        return steps / self.members * size / self.bandwidth + steps * self.latency


@dataclass(frozen=True)
class Machine:
    """Equal devices, a process for each, and what joins them: rings within rings."""

    name: str
    links: tuple[Link, ...]
    flops: float  # per second and device, sustained
    overhead: float  # seconds that a device needs for a step of no work
    read: float  # seconds to read an image, of a device's own process; 0: all resident

    @property
    def devices(self) -> int:
        """How many there are."""
        return math.prod(link.members for link in self.links)


def step_seconds(network: Network, machine: Machine, batch: int) -> tuple[float, float]:
    """A step's seconds at best and at worst: its message hidden, or not at all.

    Reading goes on beside computing in both.

    Args:
        network: what is trained.
        machine: where.
        batch: examples of all devices together.
    """
    share = batch / machine.devices
    work = max(share * network.flops / machine.flops, share * machine.read)
    # Each link carries the whole message once: within a host its devices divide it,
    # and what they have of it goes to the other hosts over the host's one port.
    message = sum(link.all_reduce(network.message(batch)) for link in machine.links)
    return machine.overhead + max(work, message), machine.overhead + work + message


def efficiency(network: Network, machine: Machine, batch: int) -> tuple[float, float]:
    """At best and at worst: how much faster than one device, divided by devices.

    The one device takes the same batch, without a message.
    """
    one = Machine("one", (), machine.flops, machine.overhead, machine.read)
    alone, _ = step_seconds(network, one, batch)
    best, worst = step_seconds(network, machine, batch)
    return alone / best / machine.devices, alone / worst / machine.devices


# ---- Assumptions ----
WEIGHTS = 824_458  # of `cnn` on 28 x 28 x 1 with ten classes
CNN = Network("cnn", WEIGHTS, flops_per_image("cnn"))
LARGE = Network("100 times cnn", 100 * WEIGHTS, 100 * flops_per_image("cnn"))
GPU_FLOPS = 30e12  # sustained: a fifth of a data-centre GPU's peak with TF32
OVERHEAD = 0.3e-3  # seconds: some dozen kernels to start, the optimizer, the metrics
READ = 1e-6  # seconds per random image of 784 bytes from the page cache; measured here
INSIDE = Link(8, 200e9, 5e-6)  # NVLink, a direction
BETWEEN = Link(64, 12.5e9, 10e-6)  # 100 Gbit/s, one port per host
MACHINES = (
    Machine("8 GPUs in one machine", (INSIDE,), GPU_FLOPS, OVERHEAD, read=0.0),
    Machine("64 hosts with 8 GPUs", (INSIDE, BETWEEN), GPU_FLOPS, OVERHEAD, READ),
)


def measure() -> dict[str, Any]:
    """Images per second and efficiency at best and at worst, by case."""
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
    """The results, a row per network, machine and batch."""
    head = [
        "network",
        "machine",
        "batch_size",
        "images/s, message hidden",
        "not hidden",
        "efficiency, message hidden",
        "not hidden",
    ]
    rows = []
    for case, row in results.items():
        network, machine, batch = case.split("; ")
        images = [f"{value:,.0f}" for value in row["images"]]
        shares = [f"{value:.1%}" for value in row["efficiency"]]
        rows.append([network, machine, f"{int(batch):,}", *images, *shares])
    return table(head, rows)
