"""Takes the folder that predict.sh filled, prints predicted beside actual seconds, and each clock beside the outside."""

import json
import sys
from pathlib import Path

folder = Path(sys.argv[1])
outside = {row["run"]: row for row in map(json.loads, (folder / "outside.jsonl").read_text().splitlines())}
print("| run | predicted, s | interval | actual, s | off | from outside, s | the clock lacks |")
print("|---|--:|---|--:|--:|--:|--:|")
for line in (folder / "ledger.jsonl").read_text().splitlines():
    entry = json.loads(line)
    if entry["event"] != "run" or entry["run"] not in outside:
        continue
    prediction, seconds, row = entry["prediction"], entry["wall_seconds"], outside[entry["run"]]
    off = 100 * (seconds / prediction["wall_seconds"] - 1)
    lacks = 100 * (1 - row["clock"] / row["outside"])
    print(
        f"| {entry['run']} | {prediction['wall_seconds']:.1f} | {prediction['low']:.0f} to {prediction['high']:.0f} "
        f"| {seconds:.1f} | {off:+.1f} % | {row['outside']:.1f} | {lacks:.2f} % |"
    )
