"""`deit-fast bench write`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.benchmarks.write import bench_write

    return bench_write(call.config)


KIND = Command(
    "images per second of conversion, beside stock FFCV's writer",
    takes=(
        "source",
        *of("write", "mode", "jpeg_share", "smart_share", "jpeg_quality", "subsampling", "optimize", "max_resolution"),
        *of("write", "max_megapixels", "resize_side", "interpolation", "exif_orientation", "on_error", "num_workers", "seed"),
        "bench.rounds",
    ),
    run=_run,
    usual=(
        *of("source", "path", "kind", "split", "subset"),
        *of("write", "mode", "jpeg_quality", "optimize", "max_resolution", "on_error", "num_workers"),
        "bench.rounds",
    ),
)
