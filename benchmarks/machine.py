"""The name of a class of machines, under which results are recorded."""

import platform
import re
from pathlib import Path

from src.runtime.cores import available_cores

CPU_INFO = Path("/proc/cpuinfo")  # of Linux
FAMILIES = {
    "amx_tile": "AMX",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "asimd": "NEON",
}  # the widest instructions first


def machine_name() -> str:
    """Processor, widest vector instructions and cores: "AMD EPYC, AVX-512, 2 cores"."""
    found = CPU_INFO.read_text() if CPU_INFO.is_file() else ""
    return describe(
        found, platform.processor() or platform.machine(), len(available_cores())
    )


def describe(cpu_info: str, otherwise: str, count: int) -> str:
    """The class, from the text of `CPU_INFO`.

    Args:
        cpu_info: the text; empty on other systems than Linux.
        otherwise: the processor's name if the text has none.
        count: of cores that a run may use.
    """
    fields = dict(re.findall(r"^(\w[\w ]*?)\s*: (.+)$", cpu_info, re.MULTILINE))
    name = re.sub(r"\((R|TM)\)|Processor|CPU| @.*", "", fields.get("model name", ""))
    flags = fields.get("flags", fields.get("Features", "")).split()
    vectors = next((FAMILIES[flag] for flag in FAMILIES if flag in flags), None)
    parts = " ".join(name.split()) or otherwise, vectors, f"{count} cores"
    return ", ".join(part for part in parts if part)
