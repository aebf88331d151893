"""Takes an image folder, kills its conversion at 20 random moments, resumes it, and compares the bytes.

kill_and_resume.py IMAGES SCRATCH_FOLDER
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

NUM_KILLS = 20


def main(images: str, folder: Path) -> None:
    out = folder / "set.beton"
    parts = folder / "set.beton.partial.parts"
    command = [sys.executable, "-m", "deit_fast", "write", f"--source.path={images}", f"--write.out={out}", "--resume"]

    def start() -> subprocess.Popen[bytes]:
        """The conversion, at the moment when its first file is there."""
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not parts.exists() and process.poll() is None:
            time.sleep(0.001)
        return process

    begun = start()
    started = time.monotonic()
    while not out.exists():
        time.sleep(0.001)
    seconds = time.monotonic() - started
    begun.wait()
    wanted = hashlib.sha256(out.read_bytes()).hexdigest()
    print(f"uninterrupted: {seconds:.2f} s from the first file to the beton, SHA-256 {wanted[:16]}")
    generator = random.Random(0)
    num_same = 0
    for number in range(NUM_KILLS):
        for path in folder.glob("set.beton*"):
            path.unlink()
        process = start()
        delay = generator.uniform(0, seconds)
        time.sleep(delay)
        process.kill()
        status = process.wait()
        left = {path.name.removeprefix("set.beton"): path.stat().st_size for path in sorted(folder.glob("set.beton*"))}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        is_same = hashlib.sha256(out.read_bytes()).hexdigest() == wanted
        num_same += is_same
        print(f"{number:2}: after {delay:.2f} s status {status}, left {left}; resumed: {'same' if is_same else 'OTHER'} bytes")
    print(f"{num_same} of {NUM_KILLS} gave the same bytes")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
