"""`nldf import dfrf` makes an avatar with DFRF's references of a folder of 512 x 512; all else is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from foreign_dfrf import random_networks, save_networks
from foreign_folders import edit, save_picture
from nldf_engine.apps.cli import main as cli
from nldf_engine.avatar import Avatar
from nldf_engine.datasets import open_dataset
from nldf_engine.datasets.foreign.dataset import ForeignDataset
from nldf_engine.engine import Engine
from nldf_engine.systems.dfrf.importer import listed_frames, references_of
from nldf_engine.systems.dfrf.model import ReferenceField
from nldf_engine.systems.dfrf.released import LISTED, SHAPES, SIDE
from nldf_engine.training.import_network import find_importer, importable

TRAINED, HELD = 205, 12
FOLDERS = {"ori_imgs": ".jpg", "com_imgs": ".jpg", "parsing": ".png"}


@pytest.fixture(scope="module")
def large(written: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic speaker as a folder of DFRF of 512 x 512, its frames repeated until they are enough."""
    source, top = written["dfrf"] / "0", tmp_path_factory.mktemp("large") / "dfrf" / "0"
    shutil.copytree(source, top, ignore=shutil.ignore_patterns(*FOLDERS, "torso_imgs"))
    metas = {name: json.loads((source / f"transforms_{name}.json").read_text()) for name in ("train", "val")}
    frames = metas["train"]["frames"] + metas["val"]["frames"]
    shown = sorted(frames, key=lambda frame: frame["img_id"])[:20]
    scale = SIDE / cv2.imread(str(source / "bc.jpg")).shape[1]

    def enlarged(path: Path) -> np.ndarray:
        return cv2.resize(cv2.imread(str(path)), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)

    save_picture(top / "bc.jpg", enlarged(source / "bc.jpg"))
    made = []
    for k in range(TRAINED + HELD):
        first = k % len(shown)
        for name, ending in FOLDERS.items():
            (top / name).mkdir(exist_ok=True)
            if k == first:
                number = shown[k]["img_id"]
                save_picture(top / name / f"{k}{ending}", enlarged(source / name / f"{number}{ending}"))
            else:
                os.link(top / name / f"{first}{ending}", top / name / f"{k}{ending}")
        marks = np.loadtxt(source / "ori_imgs" / f"{shown[first]['img_id']}.lms") * scale
        np.savetxt(top / "ori_imgs" / f"{k}.lms", marks, "%f")
        boxes = {name: [round(v * scale) for v in shown[first][name]] for name in ("face_rect", "lip_rect")}
        made.append({**shown[first], **boxes, "img_id": k, "aud_id": k})
    for name, part in (("train", made[:TRAINED]), ("val", made[TRAINED:])):
        camera = {key: metas[name][key] * scale for key in ("focal_len", "cx", "cy")}
        text = json.dumps({**metas[name], **camera, "frames": part})
        (top / f"transforms_{name}.json").write_text(text)
    return top.parent


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights whose attention was never trained."""
    path = tmp_path_factory.mktemp("dfrf") / "300000_head.tar"
    return save_networks(path, random_networks(SHAPES), 300_000, smoothed=False)


def test_systems_bring_their_importers() -> None:
    """Two systems have one; another, or none of that name, is refused with their names."""
    assert importable() == ["adnerf", "dfrf"]
    assert find_importer("adnerf").counts == range(1, 3) and find_importer("dfrf").counts == range(1, 2)
    for name in ("nldf", "lamp"):
        with pytest.raises(ValueError, match=f"expected one of adnerf, dfrf, got '{name}'"):
            find_importer(name)


def test_references_are_theirs(large: Path) -> None:
    """Training frames 50, 100, 150 and 200 of the list, from com_imgs, whole; projected about the middle."""
    dataset = open_dataset(large)
    assert isinstance(dataset, ForeignDataset)
    frames = listed_frames(dataset)
    assert frames.tolist() == list(LISTED)
    references = references_of(dataset, frames)
    picture = cv2.imread(str(large / "0" / "com_imgs" / "50.jpg"))[..., ::-1]
    assert references.pictures.shape == (4, SIDE, SIDE, 3)
    assert np.array_equal(references.pictures[0].numpy(), picture)
    assert torch.equal(references.poses[3], torch.from_numpy(dataset.poses[200]).float())
    middle = 0.5 + 0.5 / SIDE
    assert references.views[0].tolist() == pytest.approx(
        [dataset.camera.fx / SIDE, dataset.camera.fx / SIDE, middle, middle]
    )


def test_import_command(large: Path, head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The avatar has the networks, places as DFRF's program has them, and renders from a features file."""
    avatar, report = tmp_path / "avatar", tmp_path / "report.json"
    words = ["import", "dfrf", str(head), str(large), "-o", str(avatar), "--size", "8"]
    assert cli.main([*words, "--json", str(report)]) == 0
    said = capsys.readouterr().out
    for part in ("300000_head.tar (step 300000)", "the pictures 50, 100, 150, 200", "512 x 512 pixels alone",
                 "one draw of their noise", "each frame uses its own audio alone"):  # fmt: skip
        assert part in said
    told = json.loads(report.read_text())
    assert told["from"] == "DFRF" and told["references"] == list(LISTED) and told["attention"] is False
    loaded = Avatar.load(avatar)
    assert loaded.system == "dfrf" and loaded.frontend.name == "precomputed" and loaded.frontend.dim == 29
    assert loaded.provenance["imported"]["head"]["step"] == 300_000
    field = loaded.portrait.head.field
    assert isinstance(field, ReferenceField) and field.config.places == "whole"
    assert field.references.pictures.shape == (4, SIDE, SIDE, 3) and field.references.pictures.any()
    codes = torch.rand(1, 8, 64)
    assert int(field.encoder.audio.attention.weights(codes).argmax()) == 4  # the frame itself
    np.save(tmp_path / "speech.npy", np.load(large / "0" / "aud.npy")[:1])
    clip = Engine.load(avatar).render(tmp_path / "speech.npy", large)
    frames = np.stack(list(clip.frames))
    assert frames.shape == (1, 8, 8, 3) and frames.std() > 1


def test_import_command_refuses(
    large: Path, head: Path, written: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other sizes, short lists, missing pictures and hostile files end with one line; no avatar appears."""

    class Writes:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'mark'}",)

    hostile = save_networks(tmp_path / "hostile.tar", random_networks(SHAPES), extra=Writes())
    short, lacking = tmp_path / "short", tmp_path / "lacking"
    for folder in (short, lacking):
        shutil.copytree(large, folder, copy_function=os.link)
        for path in (folder / "0").glob("transforms_*.json"):
            text = path.read_text()
            path.unlink()  # a link to the fixture's
            path.write_text(text)
    edit(short / "0", lambda meta: meta.update(frames=meta["frames"][:150]), names=("train",))
    (lacking / "0" / "com_imgs" / "150.jpg").unlink()
    cases = [
        ([str(head), str(head), str(large)], 2, "it takes HEAD.tar DATASET; 3 paths were given"),
        ([str(head), str(written["dfrf"])], 1, "DFRF's weights hold for square pictures of 512 x 512"),
        ([str(hostile), str(large)], 1, "refused: it holds more than tensors"),
        ([str(head), str(short)], 1, "it lists 150 training frames"),
        ([str(head), str(lacking)], 1, "150.jpg: there is no such picture"),
        ([str(tmp_path / "x.tar"), str(large)], 1, "there is no such file"),
    ]
    for words, code, said in cases:
        assert cli.main(["import", "dfrf", *words, "-o", str(tmp_path / "avatar")]) == code
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not (tmp_path / "avatar").exists() and not (tmp_path / "mark").exists()
