"""Landmarks that follow a face."""

from __future__ import annotations

import numpy as np
import pytest

from nldf_engine.faces import FaceMesh
from nldf_engine.faces.crops import Square
from nldf_engine.faces.mesh import LEFT_EYE, LIPS, RIGHT_EYE, join_regions
from nldf_engine.geometry import face_mesh
from tests.faces.conftest import moved, placed

BLANK = np.full((300, 300, 3), 110, np.uint8)


@pytest.fixture(scope="module")
def upright(photo: np.ndarray) -> np.ndarray:
    """Landmarks of the photograph, the square having settled."""
    mesh = FaceMesh()
    for _ in range(3):
        found = mesh(photo)
    assert found is not None
    return found


def test_regions_replace_what_they_look_at() -> None:
    """Lips and eyes give x and y; depth stays the mesh's, and irises are as deep as the rims."""
    said = {"mesh": np.arange(468 * 3.0)}
    for name, count in (
        ("lips", 80),
        ("right_eye", 71),
        ("left_eye", 71),
        ("right_iris", 5),
        ("left_iris", 5),
    ):
        said[name] = np.full(2 * count, -1.0)
    joined = join_regions(said)
    closer = np.concatenate([LIPS, RIGHT_EYE, LEFT_EYE, np.arange(468, 478)])
    assert (joined[closer, :2] == -1).all() and len(set(closer)) == 80 + 71 + 71 + 10
    rest = np.setdiff1d(np.arange(468), closer)
    mesh = said["mesh"].reshape(-1, 3)
    assert (joined[rest] == mesh[rest]).all() and (joined[:468, 2] == mesh[:, 2]).all()
    assert joined[468, 2] == pytest.approx(mesh[RIGHT_EYE[:16], 2].mean())
    assert set(face_mesh.LIPS) <= set(LIPS) and set(face_mesh.EYE_RIMS) == {*RIGHT_EYE[:16], *LEFT_EYE[:16]}


def test_landmarks_are_where_the_face_is(photo: np.ndarray, upright: np.ndarray) -> None:
    """In pixels: eyes above the lips, irises between the corners, the nose nearest."""
    x, y, z = upright.T
    assert upright.shape == (478, 3) and upright.dtype == np.float32
    assert x[33] < x[468] < x[133] < x[362] < x[473] < x[263]
    assert y[[33, 263]].max() < y[4] < y[13] <= y[14] + 0.5 < y[152]
    assert z[4] < z[[33, 263]].min() and z.argmin() in (1, 4)


@pytest.mark.parametrize("angle", [-50, 25, 50])
def test_a_turned_head_is_followed(photo: np.ndarray, upright: np.ndarray, angle: float) -> None:
    """Turned step by step, the landmarks turn with the picture; the square lies as the head does."""
    mesh = FaceMesh()
    for k in range(11):
        found = mesh(placed(photo, angle * k / 10))
    for _ in range(3):
        found = mesh(placed(photo, angle))
    assert found is not None
    error = np.linalg.norm(found[:, :2] - moved(upright[:, :2], angle), axis=1)
    assert np.median(error) < 1.0 and np.percentile(error, 99) < 3.5
    assert mesh._square is not None and np.degrees(mesh._square.angle) == pytest.approx(angle, abs=8)


def test_a_small_face_is_as_the_large_one(photo: np.ndarray, upright: np.ndarray) -> None:
    """At half the size, once found."""
    mesh = FaceMesh()
    for k in range(6):
        found = mesh(placed(photo, scale=1 - k / 10))
    assert found is not None
    error = np.linalg.norm(found[:, :2] - moved(upright[:, :2], 0, 0.5), axis=1)
    assert np.median(error) < 1.2


def test_a_lost_face_is_searched_again(photo: np.ndarray, upright: np.ndarray) -> None:
    """Nothing in a blank frame; back elsewhere, the face is found there and not where it was."""
    mesh = FaceMesh()
    assert mesh(photo) is not None
    assert mesh(BLANK) is None and mesh._square is None
    frame = np.full((600, 600, 3), 110, np.uint8)
    frame[300:, 280:580] = photo
    found = mesh(frame)
    assert found is not None
    assert np.median(np.linalg.norm(found[:, :2] - upright[:, :2] - [280, 300], axis=1)) < 3


def test_of_two_faces_one_is_followed(photo: np.ndarray) -> None:
    """A second face that appears does not draw the landmarks over."""
    mesh = FaceMesh()
    alone = np.concatenate([photo, BLANK], axis=1)
    both = np.concatenate([photo, photo[:, ::-1]], axis=1)
    first = mesh(alone)
    for _ in range(5):
        found = mesh(both)
        assert first is not None and found is not None
        assert np.abs(found[:, 0] - first[:, 0]).max() < 6


def test_frames_without_tracking_know_nothing_of_each_other(photo: np.ndarray) -> None:
    """The same frame gives the same landmarks whatever came before."""
    single = FaceMesh(tracking=False)
    first = single(photo)
    single(placed(photo, 20))
    assert np.array_equal(first, single(photo))
    followed = FaceMesh()
    followed(placed(photo, 20))
    assert not np.array_equal(first, followed(photo))


def test_blank_frames_have_no_landmarks() -> None:
    """Of any size and shape."""
    for frame in (BLANK, BLANK[:1, :1], BLANK[:40, :56]):
        assert FaceMesh()(frame) is None


def test_a_square_and_its_pixels_agree() -> None:
    """What `cut` shows at a pixel lies where `to_frame` says, turned and partly outside."""
    y, x = np.mgrid[0:80, 0:100]
    frame = np.stack([2 * x, 2 * y, 0 * x], -1).astype(np.uint8)
    square = Square(55.0, 40.0, 60.0, 0.4)
    seen = square.cut(frame, 32, repeat=True)
    rows, columns = np.mgrid[0:32, 0:32]
    places = square.to_frame(np.stack([columns / 32, rows / 32], -1))
    inside = ((places > 1) & (places < [98, 78])).all(-1)
    assert inside.mean() > 0.8
    assert np.abs(seen[inside][:, :2] / 2 - places[inside]).max() < 0.6
    assert Square(0, 0, 40).cut(frame + 9, 8, repeat=False)[0, 0].max() == 0
    depth = square.to_frame(np.array([[0.5, 0.5, 0.25]]))
    assert depth[0] == pytest.approx([55, 40, 15])


def test_it_agrees_with_mediapipe(photo: np.ndarray) -> None:
    """The landmarks of MediaPipe 0.10.21 in tracking mode, upright, turned and lost, at 512 pixels."""
    import cv2

    mediapipe = pytest.importorskip("mediapipe", reason="mediapipe, the oracle, is not installed")
    if not hasattr(mediapipe, "solutions"):
        pytest.skip("this mediapipe is one without its solutions")
    angles = [0, 0, 2, 5, 9, 14, 12]
    frames = [cv2.resize(placed(photo, a), (512, 512), interpolation=cv2.INTER_CUBIC) for a in angles]
    frames.insert(4, np.zeros_like(frames[0]))
    ours = FaceMesh()
    with mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=False, max_num_faces=1, refine_landmarks=True
    ) as theirs:
        for frame in frames:
            expected = theirs.process(frame).multi_face_landmarks
            found = ours(frame)
            assert (found is None) == (not expected)
            if found is not None:
                points = np.array([(p.x, p.y, p.z) for p in expected[0].landmark]) * 512
                error = np.abs(found - points)
                assert np.median(error) < 0.1 and np.percentile(error, 99) < 0.6
