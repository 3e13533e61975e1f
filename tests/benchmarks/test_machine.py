"""Results are recorded by class of machine, and summarized over the classes."""

from benchmarks.bench import fastest_table, ratio_table
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
    assert "| PyTorch | 2.00 to 3.04 | 1.50 |" in lines


def test_fastest_contestant_is_chosen_on_each_machine():
    def rows(torch, keras):
        ratios = {"Fourbeat": 1.0, "PyTorch": torch, "Keras fit, JAX": keras}
        named = {name: {"ours_is_faster_by": each} for name, each in ratios.items()}
        return {"mlp, 32": named | {"matrix product": {"ours_is_faster_by": 0.1}}}

    recorded = {"one": rows(2.0, 1.5), "two": rows(1.25, 4.0)}
    assert "| mlp | 1.25 to 1.50 |" in fastest_table(recorded)
