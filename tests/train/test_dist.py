"""Ranks and their devices."""

import pytest
import torch

from deit_fast.config import RankError
from deit_fast.train.dist import choose_device


def test_a_rank_without_a_gpu_says_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", 1) == torch.device("cuda", 1)
    with pytest.raises(RankError, match="rank 2 of this node has no GPU: the node has 2"):
        choose_device("auto", 2)
