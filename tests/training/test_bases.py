"""Bases: what a file of shared networks says, and which are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nldf_engine.audio import FrontendConfig
from nldf_engine.base.errors import FileProblem
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.adnerf.model import RadianceField, RadianceFieldConfig
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.training.bases import find_base, read_base, write_base
from nldf_engine.training.stages import own_modules

MEL, WHISPER = FrontendConfig("mel").resolve(), FrontendConfig("whisper").resolve()
SIZES: dict[str, Any] = {"width": 16, "depth": 3, "skip": 1, "view_layers": 1, "coarse": 8, "fine": 8}


def network(seed: int = 0, motion: int = 4, near: float = 0.6, **changes: Any) -> RadianceField:
    torch.manual_seed(seed)
    return RadianceField(
        RadianceFieldConfig(Bounds(near, 1.0), ConditionConfig(motion=motion), **(SIZES | changes))
    )


def written(path: Path, motion: int = 4, frontend: FrontendConfig = MEL) -> Path:
    field = network(1, motion)
    write_base(path, field, own_modules(field), "some-preset", frontend, {"trained_on": [{"kind": "video"}]})
    return path


def test_it_fills_what_speakers_share(tmp_path: Path) -> None:
    """Weights become the base's; drivers stay as they were, and so do the speaker's own settings."""
    base, field = read_base(written(tmp_path / "b.safetensors")), network(2, near=0.5)
    before = {name: value.clone() for name, value in field.state_dict().items()}
    base.fill(field, own_modules(field), MEL)
    known, now = network(1).state_dict(), field.state_dict()
    for name in now:
        assert torch.equal(now[name], before[name] if name.startswith("encoder.motion") else known[name])
    assert base.record() == {"sha256": base.sha256, "trained_on": [{"kind": "video"}]}
    assert base.info["preset"] == "some-preset" and len(base.sha256) == 64


def test_a_network_driven_by_codes_takes_any_sound(tmp_path: Path) -> None:
    """With motion codes nothing in a base depends on the audio features; without, everything does."""
    codes = read_base(written(tmp_path / "codes.safetensors"))
    other = dataclasses.replace(network().config.conditions, audio_dim=40, audio_window=4, speech="lip")
    field = RadianceField(dataclasses.replace(network().config, conditions=other))
    codes.fill(field, own_modules(field), WHISPER)
    heard = read_base(written(tmp_path / "heard.safetensors", motion=0))
    field = network(motion=0)
    heard.fill(field, own_modules(field), MEL)
    with pytest.raises(
        FileProblem, match=r"audio.name: expected whisper, got mel.*begin from a base of this"
    ):
        heard.fill(field, own_modules(field), WHISPER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 24}, r"config.width: expected 24, got 16.*trained as 'some-preset'"),
        ({"motion": 8}, "config.conditions.motion: expected 8, got 4"),
        ({"depth": 4}, "config.depth: expected 4, got 3"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """With the file, every setting that differs, and the preset that it is of; the network stays as it is."""
    base, field = read_base(written(tmp_path / "b.safetensors")), network(**changes)
    before = {name: value.clone() for name, value in field.state_dict().items()}
    with pytest.raises(FileProblem, match=message):
        base.fill(field, own_modules(field), MEL)
    assert all(torch.equal(value, before[name]) for name, value in field.state_dict().items())


def test_another_system_is_refused(tmp_path: Path) -> None:
    """By name."""
    base, field = read_base(written(tmp_path / "b.safetensors")), network()
    field.system = "another"  # type: ignore[misc]
    with pytest.raises(FileProblem, match=r"a base of 'adnerf', and a network of 'another' is trained"):
        base.fill(field, own_modules(field), MEL)


def altered(path: Path, **header: Any) -> Path:
    base = read_base(written(path))
    info = {**base.info, "format": "nldf-base", "schema": 1, **header}
    save_file(base.tensors, path, metadata={"base": json.dumps(info)})
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format": "other"}, "does not say format 'nldf-base'"),
        ({"schema": 2}, r"its schema is 2, and this version reads up to 1: upgrade|upgrade nldf_engine"),
        ({"schema": "1"}, "its header can't be used .schema is '1'."),
        ({"config": None}, "its header can't be used .config is None."),
        ({"provenance": 3}, "its header can't be used .provenance is 3."),
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    """With the file, what is wrong, and what to do."""
    with pytest.raises(FileProblem, match=message):
        read_base(altered(tmp_path / "b.safetensors", **header))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Cut short, no safetensors at all, without a header, tensors of other shapes, or not finite."""
    path = written(tmp_path / "b.safetensors")
    content, base = path.read_bytes(), read_base(path)
    for broken in (content[:100], content[: len(content) // 2], b"", b"not a base at all"):
        path.write_bytes(broken)
        with pytest.raises(FileProblem, match="it is no readable base"):
            read_base(path)
    save_file(base.tensors, path)
    with pytest.raises(FileProblem, match="so it is no base"):
        read_base(path)
    save_file(base.tensors, path, metadata={"base": "[" * 9})
    with pytest.raises(FileProblem, match="it is no readable base"):
        read_base(path)
    odd = {**base.tensors, "fine.rgb_linear.bias": torch.full((3,), torch.nan)}
    save_file(odd, path, metadata={"base": json.dumps({**base.info, "format": "nldf-base", "schema": 1})})
    with pytest.raises(FileProblem, match=r"fine.rgb_linear.bias holds NaN"):
        read_base(path)
    odd["fine.rgb_linear.bias"] = torch.zeros(4)
    save_file(odd, path, metadata={"base": json.dumps({**base.info, "format": "nldf-base", "schema": 1})})
    field = network()
    with pytest.raises(FileProblem, match=r"fine.rgb_linear.bias: expected shape \[3\], got \[4\]"):
        read_base(path).fill(field, own_modules(field), MEL)


def test_it_is_found_by_file_or_by_the_run_s_output(tmp_path: Path) -> None:
    """The file itself, or what -o named; else an error that says how to make one."""
    (tmp_path / "me.training").mkdir()
    path = written(tmp_path / "me.training" / "base.safetensors")
    assert find_base(path) == path == find_base(tmp_path / "me")
    (tmp_path / "you").mkdir()
    with pytest.raises(FileProblem, match=r"no base is beside it.*nldf train PRESET DATASET DATASET"):
        find_base(tmp_path / "you")
    with pytest.raises(FileProblem, match="there is no such base"):
        find_base(tmp_path / "nobody")
