"""Takes a file, the folder of a run and the command that makes it, adds the command's seconds, measured from outside.

python outside.py FILE.jsonl RUN COMMAND...
"""

import json
import subprocess
import sys
import time
from pathlib import Path

file, run, *command = sys.argv[1:]
started = time.perf_counter()
subprocess.run(command, check=True)
seconds = time.perf_counter() - started
clock = json.loads((Path(run) / "summary.json").read_text())["seconds"]
with Path(file).open("a") as log:
    log.write(json.dumps({"run": Path(run).name, "outside": seconds, "clock": sum(clock.values()), "seconds": clock}) + "\n")
