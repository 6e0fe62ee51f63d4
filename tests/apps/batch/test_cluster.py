"""`nldf batch --ray` on a local cluster of two nodes; skipped where Ray is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nldf_engine.apps.batch.cluster import Cluster
from nldf_engine.apps.cli import main as cli
from nldf_engine.base.errors import MissingBackend


@pytest.mark.timeout(1800)
def test_a_lost_node_loses_no_job(tmp_path: Path) -> None:
    """Its jobs run on the other one; every video is that of one process, and a stopped batch goes on."""
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    from bench.scaling.cluster import node_lost, stopped
    from bench.scaling.options import Options

    options = Options(tmp_path, jobs=4, seconds=0.6, size=32)
    found = {**node_lost(options), **stopped(options)}
    assert found["a node killed"]["exit"] == 0 and found["a node killed"]["identical"] == 4
    assert found["stopped"]["exit"] == 130 and "what is done is kept" in found["stopped"]["said"]
    assert found["resumed"]["exit"] == 0 and found["resumed"]["identical"] == 4
    assert 2 <= found["stopped"]["done"] <= 4


def test_no_cluster_is_a_clear_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens at that address."""
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    with pytest.raises(Exception, match="there is no Ray cluster"), Cluster("127.0.0.1:1"):
        pass


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingBackend, match="pip install"):
        Cluster("auto")
    assert "batch" in cli.COMMANDS
