"""What the tests of the adapters share: an engine that renders in no time."""

import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.engine import Engine


@pytest.fixture(scope="session")
def quick() -> Engine:
    return Engine(tiny_avatar(size=16), torch.device("cpu"))
