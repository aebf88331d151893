"""Takes nothing, prints what measuring adds to a training step: the clock's two switches, and the question to the budget."""

import statistics
import time

from deit_fast.config import RunConfig
from deit_fast.record.clock import Clock
from deit_fast.train.budget import Limit

clock = Clock()
limit = Limit(RunConfig(), clock)
rounds = []
for _ in range(20):
    started = time.perf_counter()
    for _ in range(10_000):
        clock.switch("compute")
        assert not limit.is_spent
        clock.switch("data_wait")
    rounds.append((time.perf_counter() - started) / 10_000)
print(f"{1e6 * statistics.median(rounds):.2f} microseconds a step, median of {len(rounds)} rounds")
