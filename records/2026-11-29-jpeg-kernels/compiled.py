"""What NVIDIA's compilers make of all kernels, as the table in docs/gpu.md, without a device.

`PYTHONPATH=. python records/2026-11-29-jpeg-kernels/compiled.py`

cuobjdump, which Triton brings, counts the instructions; nvJitLink assembles, in the version that is installed.
"""

import re
import subprocess
import tempfile
from pathlib import Path

import triton
from cuda.bindings import nvjitlink
from numba.cuda import types
from numba.cuda.typing.typeof import typeof

from deit_fast.kernels.cuda import finish, jpeg_bits, jpeg_pixels, jpeg_samples, plan, policy, resample
from deit_fast.kernels.resample import BICUBIC
from tests.kernels.cuda.ptx import CAPABILITIES, compile_kernel
from tests.kernels.cuda.test_plan import CROPS, a_mix, a_policy

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
SHARED_BYTES = {(8, 0): 164 << 10, (9, 0): 228 << 10}  # of a multiprocessor; each block takes another 1,024
REGISTERS, WARPS = 65536, 64  # of a multiprocessor, on both
encoded, words, coefficients = types.uint8[::1], types.int32[::1], types.int16[::1]
table, steps, number, integer = types.int64[:, ::1], types.float64[:, :, ::1], types.int64, types.int32
how = typeof(CROPS["random"]), typeof(a_policy("rand-m9-mstd0.5-inc1", 0.3)), typeof(a_mix())
KERNELS = {  # kernel, types of its arguments, threads of a block for views of 224 pixels
    "`_decode_tiles`": (jpeg_bits._decode_tiles, (encoded, words, table, table, words, coefficients, words), jpeg_bits.THREADS),
    "`_transform`": (jpeg_samples._transform, (encoded, table, number, coefficients, words, words), jpeg_samples.THREADS),
    "`_show`": (jpeg_pixels._show, (table, number, encoded, encoded), jpeg_pixels.THREADS),
    "resample, bicubic": (resample.resample_kernel(BICUBIC), (encoded, table, table, integer, encoded), resample.THREADS),
    "plan": (
        plan._draw_views,
        (types.uint64, types.int64[::1], number, *how, types.float64, number, table, table, steps, table),
        plan.THREADS,
    ),
    "policy": (
        policy._apply_steps,
        (steps, encoded, types.uint32[::1], integer, integer, integer, types.uint32),
        policy.THREADS,
    ),
    "finish": (
        finish.finish_words,
        (types.uint32[::1], table, types.float32[::1], *[integer] * 4, types.uint64[::1]),
        finish.threads_for(224),
    ),
}


def num_instructions(ptx: str, capability: tuple[int, int]) -> int:
    """Of the machine code."""
    linker = nvjitlink.create(1, [f"-arch=sm_{capability[0]}{capability[1]}"])
    nvjitlink.add_data(linker, nvjitlink.InputType.PTX, ptx.encode(), len(ptx.encode()), "kernel")
    nvjitlink.complete(linker)
    code = bytearray(nvjitlink.get_linked_cubin_size(linker))
    nvjitlink.get_linked_cubin(linker, code)
    nvjitlink.destroy(linker)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        listing = subprocess.run([CUOBJDUMP, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    return len([line for line in listing.splitlines() if re.match(r"\s+/\*[0-9a-f]{4,}\*/\s", line)])


def threads_at_once(registers: int, shared_bytes: int, threads: int, capability: tuple[int, int]) -> int:
    """Of a multiprocessor. A warp gets registers by the 256; a block shared memory by the 128 bytes."""
    warps = -(-threads // 32)
    of_warp = -(-32 * registers // 256) * 256
    by_registers = REGISTERS // 4 // of_warp * 4 // warps
    by_memory = SHARED_BYTES[capability] // (-(-(shared_bytes + 1024) // 128) * 128)
    return 32 * warps * min(by_registers, by_memory, WARPS // warps)


print("nvJitLink", *nvjitlink.version())
print("| kernel | registers | spilled bytes | shared bytes | threads of a block | threads on a multiprocessor | instructions |")
print("|---|--:|--:|--:|--:|--:|--:|")
for name, (kernel, argument_types, threads) in KERNELS.items():
    made = [compile_kernel(kernel, argument_types, capability) for capability in CAPABILITIES]
    columns = [
        [one.registers for one in made],
        [one.spill_bytes for one in made],
        [one.shared_bytes for one in made[:1]],
        [threads],
        [threads_at_once(m.registers, m.shared_bytes, threads, c) for m, c in zip(made, CAPABILITIES, strict=True)],
        [num_instructions(one.ptx, capability) for one, capability in zip(made, CAPABILITIES, strict=True)],
    ]
    cells = (", ".join(f"{value:,}" for value in dict.fromkeys(column)) for column in columns)
    print(f"| {name} | {' | '.join(cells)} |", flush=True)
