"""Estimate of the cycles that the inner loops of resampling take on other processors, by llvm-mca (LLVM 14), not measured.

    python records/2026-11-30-loader/cycles.py

Prints, for a tap of 16 rows of red, green and blue (48 values), cycles and micro-operations: one byte at a time
(`weigh.weigh_transposed`) and two (`pairs.weigh_column`), compiled for a processor without AVX-512 and for one with it.
"""

from __future__ import annotations

import re
import subprocess

import llvmlite.binding as llvm
from numba import njit, types

from deit_fast.kernels import pairs
from deit_fast.kernels.weigh import weigh_transposed

_AVX2 = "+avx2,+bmi,+bmi2,+fma"
_PROCESSORS = {"haswell": _AVX2, "icelake-server": f"{_AVX2},+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni"}


@njit
def _singly(source, stride, weights, num_lines, target):  # type: ignore[no-untyped-def]
    weigh_transposed(source, stride, weights, num_lines, target)


@njit
def _in_pairs(source, weights, num_pairs, target):  # type: ignore[no-untyped-def]
    pairs.weigh_column(source, weights, num_pairs, target)


def _innermost_loop(assembly: str, instruction: str) -> list[str]:
    """The shortest loop in which an instruction stands."""
    lines = assembly.splitlines()
    labels = {line[:-1]: number for number, line in enumerate(lines) if re.match(r"\.LBB\S+:$", line)}
    found = []
    for number, line in enumerate(lines):
        jump = re.match(r"\tj\w+\t(\.LBB\S+)", line)
        if jump and labels.get(jump[1], len(lines)) < number:
            body = lines[labels[jump[1]] + 1 : number + 1]
            if any(instruction in line for line in body):
                found.append(body)
    return min(found, key=len)


def main() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    ways = {
        "one byte at a time": (_singly, 5, "vpmulld", 1),
        "two bytes at a time": (_in_pairs, 4, "vpmaddubsw", 2),
    }
    for processor, features in _PROCESSORS.items():
        for way, (function, num_arguments, instruction, taps) in ways.items():
            function.compile((types.intp,) * num_arguments)
            module = llvm.parse_assembly(next(iter(function.overloads.values())).library.get_llvm_str())
            machine = llvm.Target.from_default_triple().create_target_machine(cpu=processor, features=features, opt=3)
            body = _innermost_loop(machine.emit_assembly(module), instruction)
            products = [line for line in body if instruction in line]
            # bytes that one such instruction multiplies: a lane of four bytes is for one byte, or one of two for a pair
            values = sum((64 if "zmm" in line else 32) // (4 if taps == 1 else 2) for line in products)
            said = subprocess.run(
                ["llvm-mca", f"-mcpu={processor}", "-iterations=200"],
                input="\n".join(body), capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            cycles, operations = (int(re.search(rf"Total {name}:\s+(\d+)", said)[1]) / 200 for name in ("Cycles", "uOps"))
            per_tap = 48 / values / taps
            cost = f"{cycles * per_tap:.1f} cycles, {operations * per_tap:.0f} micro-operations"
            print(f"{processor}, {way}: {cost} a tap of 48 values")


if __name__ == "__main__":
    main()
