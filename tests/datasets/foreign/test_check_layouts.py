"""`nldf validate` on foreign folders: nothing against good ones, every mismatch is named with the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from foreign_folders import edit, save_picture
from nldf_engine.apps.cli import main as cli
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets import open_dataset
from nldf_engine.datasets.validate import validate

Copied = Callable[[str], Path]
Meta = dict[str, Any]


@pytest.mark.parametrize("layout", ["adnerf", "dfrf", "radnerf", "ernerf"])
def test_good_folders(layout: str, written: dict[str, Path]) -> None:
    """A whole folder gets one note, which names its layout, and passes."""
    problems = validate(written[layout])
    assert [problem.severity for problem in problems] == ["note"], [str(problem) for problem in problems]
    assert "100 frames" in problems[0].what and cli.main(["validate", str(written[layout])]) == 0


def every_frame(change: Callable[[Meta], Any]) -> Callable[[Path], None]:
    """Breaks each frame of the transforms."""
    return lambda folder: edit(folder, lambda meta: [change(frame) for frame in meta["frames"]] and None)


def header(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda meta: meta.update(values))


def without(pattern: str) -> Callable[[Path], None]:
    """Removes files."""

    def remove(folder: Path) -> None:
        paths = list(folder.glob(pattern))
        assert paths
        for path in paths:
            path.unlink()

    return remove


def matrix(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def one(frame: Meta) -> None:
        frame["transform_matrix"] = change(np.array(frame["transform_matrix"])).tolist()

    return every_frame(one)


def mirrored(m: np.ndarray) -> np.ndarray:
    return m @ np.diag([-1.0, 1, 1, 1])


def opencv(m: np.ndarray) -> np.ndarray:
    return m @ np.diag([1.0, -1, -1, 1])


def unscaled(m: np.ndarray) -> np.ndarray:
    return np.concatenate([m[:, :3], m[:, 3:] * [[10], [10], [10], [1]]], 1)


def cut_rows(name: str, rows: int) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, np.load(folder / name)[:rows])


def transposed(frame: Meta) -> None:
    x, y, w, h = frame["face_rect"]
    frame["face_rect"] = [y, x, h, w]


def aside(folder: Path) -> None:
    """The face in a corner, so that its box differs from a transposed one."""
    for path in (folder / "ori_imgs").glob("*.lms"):
        points = np.loadtxt(path)
        np.savetxt(path, (points - points.min(0)) * 0.4 + [30, 2])


def transposed_aside(folder: Path) -> None:
    aside(folder)
    every_frame(lambda frame: frame.update(face_rect=[2, 28, 30, 34]))(folder)


def repaint(color: tuple[int, int, int]) -> Callable[[Path], None]:
    def paint(folder: Path) -> None:
        picture = cv2.imread(str(folder / "parsing" / "3.png"))
        picture[:4] = color
        save_picture(folder / "parsing" / "3.png", picture)

    return paint


def shrink(name: str) -> Callable[[Path], None]:
    def one(folder: Path) -> None:
        save_picture(folder / name, cv2.resize(cv2.imread(str(folder / name)), (40, 40)))

    return one


def leak(folder: Path) -> None:
    held = json.loads((folder / "transforms_val.json").read_text())["frames"]
    edit(folder, lambda meta: meta["frames"].append(held[0]), ("train",))


def interleave(folder: Path) -> None:
    train = json.loads((folder / "transforms_train.json").read_text())["frames"]
    edit(folder, lambda meta: meta["frames"].insert(0, train[70]), ("val",))
    edit(folder, lambda meta: meta["frames"].pop(70), ("train",))


def labels_only(folder: Path) -> None:
    np.save(folder / "aud_ds.npy", np.zeros((100, 16), np.float32))


def slow_sound(folder: Path) -> None:
    from nldf_engine.audio import load_audio
    from nldf_engine.datasets.format import write_wav

    write_wav(folder / "aud.wav", load_audio(folder / "aud.wav")[: 16000 * 3])


def objects(folder: Path) -> None:
    np.save(folder / "aud.npy", np.array([{}], object), allow_pickle=True)


def au(header_line: str, rows: int) -> Callable[[Path], None]:
    lines = "".join(f"{k}, 0.5\n" for k in range(rows))
    return lambda folder: (folder / "au.csv").write_text(header_line + "\n" + lines) and None


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def swapped(folder: Path) -> None:
    for path in (folder / "parsing").glob("*.png"):
        save_picture(path, np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]))


def numbers_for_colours(folder: Path) -> None:
    for path in (folder / "parsing").glob("*.png"):
        save_picture(path, cv2.imread(str(path)) // 100)


def moved_labels(folder: Path) -> None:
    for path in (folder / "parsing").glob("*.png"):
        save_picture(path, np.roll(cv2.imread(str(path)), 30, 1))


def renamed(name: Callable[[int], str]) -> Callable[[Path], None]:
    def rename(folder: Path) -> None:
        for path in sorted((folder / "ori_imgs").iterdir(), key=lambda path: -int(path.stem)):
            path.rename(path.with_stem(name(int(path.stem))))

    return rename


def as_png(folder: Path) -> None:
    for name in ("ori_imgs", "gt_imgs"):
        for path in (folder / name).glob("*.jpg"):
            save_picture(path.with_suffix(".png"), cv2.imread(str(path)))
            path.unlink()


def half(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return cut


def dangling(name: str) -> Callable[[Path], None]:
    """A link to nothing in the place of a file."""

    def link(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("nowhere")

    return link


def flat_features(folder: Path) -> None:
    np.save(folder / "aud_hu.npy", np.load(folder / "aud_hu.npy")[:, 0])


CASES: list[tuple[str, str, Callable[[Path], None], str, str, str]] = [
    (
        "no pictures",
        "adnerf",
        lambda f: [p.unlink() for d in ("ori_imgs", "com_imgs") for p in (f / d).glob("*.jpg")] and None,
        "error",
        "ori_imgs",
        "no pictures 0.jpg",
    ),
    (
        "one picture",
        "adnerf",
        without("ori_imgs/7.jpg"),
        "warning",
        "ori_imgs",
        "1 of 100 frames (the first: 7)",
    ),
    ("half a picture", "adnerf", half("ori_imgs/7.jpg"), "error", "ori_imgs/7.jpg", "cut short"),
    ("a link to nothing", "adnerf", dangling("ori_imgs/7.jpg"), "error", "ori_imgs/7.jpg", "No such file"),
    ("half a map", "radnerf", half("parsing/7.png"), "error", "parsing/7.png", "cut short"),
    (
        "head pictures",
        "adnerf",
        without("head_imgs/1?.jpg"),
        "note",
        "head_imgs",
        "10 of 100 frames (the first: 10)",
    ),
    (
        "torso pictures",
        "dfrf",
        without("torso_imgs/5.jpg"),
        "note",
        "torso_imgs",
        "1 of 100 frames (the first: 5)",
    ),
    ("label maps", "radnerf", without("parsing/*.png"), "error", "parsing", "100 of 100 frames"),
    ("landmarks", "adnerf", without("ori_imgs/*.lms"), "error", "ori_imgs", "no landmarks (.lms)"),
    ("background", "ernerf", without("bc.jpg"), "error", "bc.jpg", "background is missing"),
    (
        "split",
        "adnerf",
        without("transforms_val.json"),
        "error",
        "transforms_val.json",
        "the other split is there",
    ),
    (
        "no json",
        "adnerf",
        text("transforms_train.json", "{"),
        "error",
        "transforms_train.json",
        "not valid JSON",
    ),
    ("no frames", "radnerf", header(frames=[]), "error", "transforms_train.json", "lists no frames"),
    ("mirrored", "adnerf", matrix(mirrored), "error", "transforms_train.json", "not rigid: it mirrors"),
    ("scaled", "radnerf", matrix(lambda m: m * 1.1), "error", "transforms_train.json", "off a rotation by"),
    ("axes", "ernerf", matrix(opencv), "error", "transforms_train.json", "OpenCV's axes"),
    ("units", "radnerf", matrix(unscaled), "severe", "transforms_train.json", "m from the camera"),
    (
        "no matrix",
        "dfrf",
        every_frame(lambda f: f.pop("transform_matrix")),
        "error",
        "transforms_train.json",
        "transform_matrix is missing",
    ),
    (
        "no focal",
        "adnerf",
        lambda f: edit(f, lambda m: m.pop("focal_len")),
        "error",
        "transforms_train.json",
        "no focal length",
    ),
    (
        "two focals",
        "adnerf",
        lambda f: edit(f, lambda m: m.update(focal_len=9.0), ("val",)),
        "error",
        "transforms_val.json",
        "differs",
    ),
    ("bad focal", "adnerf", header(focal_len="long"), "error", "transforms_train.json", "must be a number"),
    ("centre", "radnerf", header(cx=225.0), "severe", "transforms_train.json", "cx is 225"),
    (
        "near and far",
        "adnerf",
        text("HeadNeRF_config.txt", "near = 2.0\nfar = 3.0\n"),
        "severe",
        "HeadNeRF_config.txt",
        "cut the head",
    ),
    ("short features", "adnerf", cut_rows("aud.npy", 60), "severe", "aud.npy", "40 frames at the end get"),
    ("a little short", "radnerf", cut_rows("aud_ds.npy", 98), "note", "aud_ds.npy", "98 rows"),
    ("labels as features", "radnerf", labels_only, "error", "aud_ds.npy", "(N, 16) are labels"),
    ("pickled features", "dfrf", objects, "error", "aud.npy", "no readable .npy file of numbers"),
    ("no features", "radnerf", without("aud_ds.npy"), "note", "aud_ds.npy", "no audio features"),
    (
        "other name",
        "radnerf",
        lambda f: (f / "aud_ds.npy").rename(f / "aud.npy") and None,
        "note",
        "aud.npy",
        "looks for aud_ds.npy",
    ),
    ("no sound", "adnerf", without("aud.wav"), "warning", "aud.wav", "only be driven by features files"),
    ("short sound", "ernerf", slow_sound, "severe", "aud.wav", "lasts 3.00 s, and the frames reach 4.00 s"),
    ("transposed box", "adnerf", transposed_aside, "warning", "transforms_train.json", "face_rect holds"),
    (
        "no box",
        "adnerf",
        every_frame(lambda f: f.pop("face_rect")),
        "warning",
        "transforms_train.json",
        "no face_rect",
    ),
    (
        "box outside",
        "adnerf",
        every_frame(lambda f: f.update(face_rect=[0, 0, 90, 90])),
        "note",
        "transforms_train.json",
        "face_rect leaves the picture",
    ),
    ("twice", "adnerf", leak, "error", "transforms_train.json", "img_id 80 is listed more than once"),
    (
        "interleaved",
        "radnerf",
        interleave,
        "warning",
        "transforms_val.json",
        "are among the validation frames",
    ),
    ("no blinks", "ernerf", without("au.csv"), "warning", "au.csv", "from the landmarks"),
    ("other blinks", "ernerf", au("frame, AU01_r", 100), "error", "au.csv", "no column AU45_r"),
    ("few blinks", "ernerf", au("frame, AU45_r", 50), "warning", "au.csv", "50 rows; 50 of 100 frames"),
    ("colour", "dfrf", repaint((0, 255, 255)), "error", "parsing/3.png", "the colour [255, 255, 0]"),
    ("size of labels", "radnerf", shrink("parsing/8.png"), "error", "parsing/8.png", "it is 40 x 40"),
    ("size of plate", "adnerf", shrink("bc.jpg"), "error", "bc.jpg", "it is 40 x 40"),
    ("no alpha", "radnerf", shrink("torso_imgs/8.png"), "warning", "torso_imgs/8.png", "it is 40 x 40"),
    (
        "damaged picture",
        "ernerf",
        text("gt_imgs/2.jpg", "x"),
        "error",
        "gt_imgs/2.jpg",
        "no readable picture",
    ),
    ("red for blue", "adnerf", swapped, "error", "parsing", "red and blue are swapped"),
    ("numbers", "dfrf", numbers_for_colours, "error", "parsing", "no pixel of any map is white"),
    ("other labels", "ernerf", moved_labels, "severe", "parsing", "of the face's landmarks are on the head"),
    ("padded", "radnerf", renamed("{:08d}".format), "error", "ori_imgs", "padded with zeros (00000000.jpg)"),
    ("from one", "adnerf", renamed(lambda k: str(k + 1)), "error", "ori_imgs", "as if counted from 1"),
    ("png", "radnerf", as_png, "error", "ori_imgs", "it holds 0.png, 1.png"),
    ("flat features", "ernerf", flat_features, "error", "aud_hu.npy", "takes (N, 2, 1024) there"),
    ("damaged landmarks", "adnerf", text("ori_imgs/5.lms", "1 2\n"), "error", "5.lms", "68 lines"),
]


@pytest.mark.parametrize(
    ("layout", "damage", "severity", "where", "what"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_mismatch(
    layout: str, damage: Callable[[Path], None], severity: str, where: str, what: str, copied: Copied
) -> None:
    """The mismatch is named with its file and a remedy; only an error keeps the folder from opening."""
    folder = copied(layout)
    damage(folder)
    problems = validate(folder)
    found = [p for p in problems if p.where.endswith(where) and what in p.what and p.severity == severity]
    assert found, "\n".join(map(str, problems))
    assert found[0].remedy
    if severity != "error":
        assert not [str(p) for p in problems if p.severity == "error"]
        assert len(open_dataset(folder).indices("train")) > 0


def test_error_at_opening(copied: Copied) -> None:
    """open_dataset refuses with the first error, and says where all of them stand."""
    folder = copied("adnerf")
    (folder / "bc.jpg").unlink()
    without("parsing/*.png")(folder)
    with pytest.raises(FileProblem, match=r"parsing.*1 more: nldf validate"):
        open_dataset(folder)


def test_tracked_numbers_are_noted(copied: Copied) -> None:
    """Poses beside the wrong pictures, RAD-NeRF's trap, are corrected and noted."""
    folder = copied("ernerf")
    (folder / "ori_imgs" / "50.lms").unlink()
    edit(folder, lambda meta: meta["frames"].pop(), ("val",))
    assert any("49 of 99 poses, from picture 51 on" in p.what for p in validate(folder))
