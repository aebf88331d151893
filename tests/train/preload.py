"""Imports all that a run needs, which starts no thread pool: what the server of forks in sessions.py loads first."""

import deit_fast.train.loop  # noqa: F401
