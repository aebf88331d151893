"""Takes the folder that digits.sh filled, gives results.json in it and a table: top-1 of the last weights, by run and seed."""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from deit_fast.record.log import read_events


def collect(folder: Path) -> dict[str, Any]:
    """Of each run: command, remarks on its weights, versions, summary, and its last evaluation of each kind of weights."""
    runs = {}
    for path in sorted(folder.glob("*/summary.json")):
        events = read_events(path.parent / "log.jsonl")
        record = json.loads((path.parent / "run.json").read_text())
        runs[path.parent.name] = {
            "command": record["command"],
            "versions": record["versions"],
            "remarks": [event["message"] for event in events if event["event"] == "weights"],
            "last": {event["weights"]: event for event in events if event["event"] == "eval"},
            "summary": json.loads(path.read_text()),
        }
    evals = {path.name.removesuffix(".eval.json"): json.loads(path.read_text()) for path in sorted(folder.glob("*.eval.json"))}
    return {"runs": runs, "evals": evals}


def table(results: dict[str, Any]) -> str:
    """A line for each kind of run: top-1 of each seed and their mean; the average of weights where a run keeps one."""
    top1: dict[str, float] = {}
    for name, run in results["runs"].items():
        top1[name] = run["last"]["ema" if "ema" in run["last"] else "model"]["top1"]
    top1 |= {f"{name} (eval)": result["top1"] for name, result in results["evals"].items()}
    kinds: dict[str, dict[str, float]] = {}
    for name, value in top1.items():
        seed = re.search(r"-(\d)(?=-|$| )", name)
        kind = name if seed is None else name[: seed.start()] + name[seed.end() :]
        kinds.setdefault(kind, {})[seed[1] if seed else ""] = value
    lines = [f"{'run':<36}{'seeds':<10}top-1 of each, and mean"]
    for kind, by_seed in kinds.items():
        each = ", ".join(f"{value:.2f}" for value in by_seed.values())
        lines.append(f"{kind:<36}{' '.join(by_seed):<10}{each}; {statistics.mean(by_seed.values()):.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    found = collect(Path(sys.argv[1]))
    (Path(sys.argv[1]) / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
