"""Results are recorded by class of machine, and summarized over the classes."""

from benchmarks.bench import ratio_table
from benchmarks.machine import describe

INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Processor @ 2.00GHz
flags\t\t: fpu sse avx2 avx512f avx512_vnni
"""


def test_class_names_processor_vectors_and_cores():
    assert describe(INTEL, "x86_64", 2) == "Intel Xeon, AVX-512, 2 cores"


def test_class_of_a_machine_without_cpu_info_names_its_processor():
    assert describe("", "arm", 8) == "arm, 8 cores"


def test_ratios_are_ranges_over_the_classes_that_have_them():
    def row(ratio):
        return {"ours_is_faster_by": ratio}

    recorded = {
        "one": {"mlp, 32": {"Fourbeat": row(1.0), "PyTorch": row(2.0)}},
        "two": {
            "mlp, 32": {"Fourbeat": row(1.0), "PyTorch": row(3.04)},
            "cnn, 32": {"Fourbeat": row(1.0), "PyTorch": row(1.5)},
        },
    }
    lines = ratio_table(recorded).splitlines()
    assert lines[0] == "| compared with | mlp, 32 | cnn, 32 |"
    assert "| PyTorch | 2.0 to 3.0 | 1.5 |" in lines
