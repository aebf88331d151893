"""A result of `bench gpu` as a GPU might give it; its figures are made up."""

from __future__ import annotations

from typing import Any


def _kernel(seconds: float, megabytes: float | None = None, **bounds: float) -> dict[str, Any]:
    needs = None
    if megabytes is not None:
        needs = {"bytes": round(1e6 * megabytes), "instructions": 0, "chain": 0, "from_host": False}
    return {"seconds": seconds, "queue_seconds": 8e-6, "needs": needs, "bounds": bounds}


def _rates(**rates: float) -> dict[str, Any]:
    return {name.replace("_", " "): {"median": rate, "min": 0.95 * rate, "max": 1.04 * rate} for name, rate in rates.items()}


def _decode(size: int, rate: float) -> dict[str, Any]:
    rates = _rates(kernels=rate, nvjpeg=0.1 * rate, nvjpeg_of_crops=0.14 * rate, cpu=0.07 * rate)
    whole = _rates(kernels=0.7 * rate, nvjpeg=0.12 * rate)
    rates |= {f"{name}, whole": found for name, found in whole.items()}
    return {
        "photographs_per_second": rates,
        "rounds": {},
        "ratios": {"kernels / nvjpeg": 10.0, "kernels / nvjpeg of crops": 7.1, "kernels, whole / nvjpeg, whole": 5.8},
        "alone": {"kernels": 1.6 * rate, "kernels, whole": 1.2 * rate},
        "refused": {"kernels": 0, "nvjpeg": 3},
        "failed_decoders": {"cpu, half": "ValueError: made up"},
        "size": size,
        "lacks": "",
        "repeats": 3,
        "num_workers": 16,
        "bytes_per_photograph": 110_000.0,
    }


def _run(synthetic: float) -> dict[str, Any]:
    roads = {"decode cpu, augment cpu": 0.6, "decode cpu, augment gpu": 0.8, "decode gpu, augment gpu": 0.99}
    return {
        "images_per_second": {"synthetic": synthetic, **{road: share * synthetic for road, share in roads.items()}},
        "rounds": {},
        "shares": {road: {"median": share, "min": share, "max": share} for road, share in roads.items()},
        "loaders": {road: 1.3 * share * synthetic for road, share in roads.items()},
        "threads": dict.fromkeys(roads, 16),
        "lacks": {},
        "failed_profile": "RuntimeError: no profiler",
        "failed_roads": {"decode gpu, augment gpu, 4 threads": "RuntimeError: made up"},
        "first_steps_seconds": 41.0,
        "slowest": [{"name": "a_kernel", "calls": 12, "share": 0.4}],
    }


RESULT: dict[str, Any] = {
    "kind": "gpu",
    "hardware": {"gpus": [{"name": "A made-up GPU"}]},
    "results": {
        "ceilings": {
            "bytes_per_second": 4.2e12,
            "multiply_adds_per_second": 4e14,
            "host_bytes_per_second": 5.2e10,
            "cycles_per_second": 1.9e9,
            "num_multiprocessors": 132,
        },
        "compile": {"seconds": 41.5},
        "kernels": {
            "views": 256,
            "resolution": 224,
            "dtype": "bfloat16",
            "photographs": 86,
            "tiles": 6200,
            "symbols": 6_100_000,
            "symbols_of_longest_tile": 1504,
            "blocks": 250_000,
            "wanted_blocks": 210_000,
            "pixels": 9_000_000,
            "encoded_bytes": 6_900_000,
            "damaged": 0,
            "left": 0,
            "kernels": {
                "zero": _kernel(9e-6, 32, bytes=7.6e-6),
                "decode_tiles": _kernel(7.4e-4, 39, bytes=9.3e-6, latency=5.9e-4),
                "transform": _kernel(6e-5, 40.3, bytes=9.6e-6, instructions=3.9e-5),
                "show": _kernel(4e-5, 40.4, bytes=9.6e-6, instructions=7e-5),
                "resample": _kernel(5e-5, 60, bytes=1.4e-5),
                "draw": _kernel(1.1e-5, 0.1, bytes=2.4e-8),
                "policy": _kernel(1.9e-4, 77, bytes=1.8e-5),
                "finish": _kernel(5e-5, 154, bytes=3.6e-5),
                "decode": _kernel(8.5e-4),
                "decode and views": _kernel(1.1e-3),
                "all with transfer": {"failed": "RuntimeError: made up"},
            },
        },
        "pixels": {
            "photographs": {"equal": 1024, "different": 0, "left": 0, "greatest": 0},
            "views": {"equal": 1022, "different": 2, "left": 0, "greatest": 1},
        },
        "decode 85": _decode(85, 60_000),
        "decode 256": _decode(256, 110_000),
        "decode 1024": {"failed": "OutOfMemoryError: made up"},
        "host": {
            "seconds": _rates(plan=3e-5, gather=2.2e-4, copy=6e-4, batch=4e-4),
            "failed_stages": {"batch": "OSError: made up"},
            "over_copy": {"plan": 0.05, "gather": 0.37, "copy": 1.0, "batch": 0.67},
            "views": 256,
            "photographs": 86.0,
            "bytes": 6.9e6,
            "num_workers": 16,
        },
        "run deit_small_patch16_224": _run(12_000),
        "run deit_base_patch16_224": {"failed": "RuntimeError: CUDA error: an illegal memory access was encountered"},
        "places": {"skipped": "no time left"},
        "updates": {
            "model": "deit_small_patch16_224",
            "updates": {
                "AdamW, fused": _kernel(1.76e-4, 616, bytes=1.47e-4),
                "average, at once": _kernel(8e-5, 264, bytes=6.3e-5),
            },
        },
    },
}
