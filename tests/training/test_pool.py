"""The active pool keeps the hardest rays."""

import pytest
import torch

from nldf_engine.training.pool import ActivePool


def offer(pool: ActivePool, losses: list[float], frame: int) -> None:
    count = len(losses)
    pool.offer(torch.full((count,), frame), torch.arange(count), torch.tensor(losses, dtype=torch.float32))


def test_only_the_hardest_share_enters() -> None:
    """Of ten rays with j = 20 %, the two of highest loss enter."""
    pool = ActivePool(100, 0.2)
    offer(pool, [float(i) for i in range(10)], 1)
    assert sorted(pool.losses.tolist()) == [8, 9] and sorted(pool.pixels.tolist()) == [8, 9]


def test_a_full_pool_replaces_its_easiest_rays() -> None:
    """New rays take the places of easier ones, and never of harder ones; the size stays."""
    pool = ActivePool(4, 1.0)
    offer(pool, [1, 2, 3, 4], 1)
    offer(pool, [10, 0.5], 2)
    assert len(pool) == 4
    assert sorted(pool.losses.tolist()) == [2, 3, 4, 10]
    assert pool.frames[pool.losses == 10].tolist() == [2]


def test_a_pool_fills_up_partly_and_then_replaces() -> None:
    """An offer larger than the room left fills the room, and its rest replaces easier rays."""
    pool = ActivePool(3, 1.0)
    offer(pool, [1, 2], 1)
    offer(pool, [5, 6], 2)
    assert sorted(pool.losses.tolist()) == [2, 5, 6]


def test_drawn_rays_can_leave_once_learned() -> None:
    """A ray whose loss was renewed to a small one is the next to be replaced."""
    pool = ActivePool(2, 1.0)
    offer(pool, [5, 6], 1)
    pool.renew(torch.tensor([0]), torch.tensor([0.0]))
    offer(pool, [1.0], 2)
    assert sorted(pool.losses.tolist())[0] == 1.0


def test_an_empty_pool_draws_nothing() -> None:
    """Before the first offer nothing is drawn; impossible settings are refused."""
    assert len(ActivePool(5, 0.5).draw(3, torch.Generator())[0]) == 0
    with pytest.raises(ValueError, match="ActivePool"):
        ActivePool(0, 0.5)
