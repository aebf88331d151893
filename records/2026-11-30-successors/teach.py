"""Seconds of an epoch of DeiT-Ti with a live RegNetY-16GF, and with its stored answers, in turns.

teach.py TRAIN.beton VAL.beton FOLDER [ROUNDS]: betons of photographs; runs and labels go to the folder, the result to
FOLDER/teach.json. Weights are random, which changes no time. Run from the project's root.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import timm
import torch

train, val, folder, rounds = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int((*sys.argv[4:], 3)[0])
EPOCHS = 2
teacher = folder / "regnety_160.pth"
common = [
    "--config-file", "deit_configs/deit_tiny_distilled.yaml", f"--data.train={train}", "--data.batch_size=16",
    "--data.subset=32", f"--train.epochs={EPOCHS}", "--train.device=cpu",
]  # fmt: skip


def deit_fast(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "deit_fast", *words], check=True, stdout=subprocess.DEVNULL)


def epoch_seconds(run: Path) -> float:
    """Median seconds of the later epochs' steps, with waiting for their batches."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    epochs = [event for event in events if event["event"] == "epoch"]
    return statistics.median(event["wall_seconds"] for event in epochs[1:])


classes = len(json.loads(Path(f"{train}.json").read_text())["classes"])
torch.save(timm.create_model("regnety_160", num_classes=classes).state_dict(), teacher)
deit_fast(
    "teach",
    *common,
    f"--distil.teacher_weights={teacher}",
    f"--teach.out={folder / 'labels.dfl'}",
    f"--out={folder / 'taught.json'}",
)
ways = {"live": f"--distil.teacher_weights={teacher}", "stored": f"--distil.labels={folder / 'labels.dfl'}"}
seconds: dict[str, list[float]] = {way: [] for way in ways}
for number in range(rounds):
    for way, option in ways.items():
        run = folder / f"{way}-{number}"
        deit_fast(
            "train",
            *common,
            f"--data.val={val}",
            option,
            "--schedule.warmup_epochs=0",
            f"--run.dir={run}",
            "--train.eval_every=100",
        )
        seconds[way].append(epoch_seconds(run))
ratios = [live / stored for live, stored in zip(seconds["live"], seconds["stored"], strict=True)]
result = {
    "epoch_seconds": seconds,
    "ratio": statistics.median(ratios),
    "ratios": ratios,
    "taught": json.loads((folder / "taught.json").read_text()),
}
(folder / "teach.json").write_text(json.dumps(result, indent=1))
print(json.dumps(result, indent=1))
