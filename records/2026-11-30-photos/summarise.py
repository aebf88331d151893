"""Mean and sample deviation of the runs of each recipe: best evaluation, last raw weights, seconds. summarise.py FOLDER..."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

recipes: defaultdict[str, list[Path]] = defaultdict(list)
for folder in map(Path, sys.argv[1:]):
    for summary in sorted(folder.glob("*/summary.json")):
        recipes[json.loads((summary.parent / "run.json").read_text())["name"].partition(",")[0]].append(summary.parent)
for recipe, runs in recipes.items():
    best, last, seconds = [], [], []
    for run in runs:
        summary = json.loads((run / "summary.json").read_text())
        events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        raw = [event for event in events if event["event"] == "eval" and event["weights"] == "model"]
        best.append(summary["best_top1"])
        last.append(raw[-1]["top1"])
        seconds.append(summary["wall_seconds"])
    numbers = [f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}" for values in (best, last)]
    print(f"{recipe}: {len(runs)} runs, best {numbers[0]}, last {numbers[1]}, {statistics.median(seconds):.0f} s (median)")
