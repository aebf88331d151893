"""Page faults and seconds of a plan's rounds, with freed memory kept and without, in turns:

page_faults.py OUT.json ROUNDS SECONDS plan OPTIONS...
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

KEPT, NOT_KEPT = {}, {"MALLOC_ARENA_TEST": "8"}  # any MALLOC_ variable leaves the allocator as it is; this one is the default


def rounds_of_a_plan(out: str, words: list[str]) -> None:
    """In a process of its own: a list of (task, seconds, page faults)."""
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command sets it, before torch is there
    import deit_fast.train.probe as probe
    from deit_fast.__main__ import main

    seen = []
    in_turns = probe._Probe._in_turns

    def noted(name, task):
        def run() -> None:
            faults, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            task()
            seconds = time.perf_counter() - started
            seen.append((str(name), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults))

        return run

    probe._Probe._in_turns = lambda self, tasks, taking: in_turns(
        self, {name: noted(name, task) for name, task in tasks.items()}, taking
    )
    main(words)
    Path(out).write_text(json.dumps(seen))


def main() -> None:
    out, num_rounds, seconds, *words = sys.argv[1:]
    result = []
    for _ in range(int(num_rounds)):
        for kept, setting in (("kept", KEPT), ("not kept", NOT_KEPT)):
            part = Path(f"{out}.part")
            command = [sys.executable, __file__, "--one", str(part), *words, f"--plan.seconds={seconds}"]
            subprocess.run(command, env=os.environ | setting, check=True, stdout=subprocess.DEVNULL)
            seen = json.loads(part.read_text())
            part.unlink()
            for task in dict.fromkeys(name for name, _, _ in seen):
                of_task = [entry for entry in seen if entry[0] == task]
                median, faults = (statistics.median(entry[at] for entry in of_task) for at in (1, 2))
                result.append({"freed memory": kept, "task": task, "rounds": len(of_task), "seconds": median, "faults": faults})
    Path(out).write_text("".join(json.dumps(line) + "\n" for line in result))


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        rounds_of_a_plan(sys.argv[2], sys.argv[3:])
    else:
        main()
