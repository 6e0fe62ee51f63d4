"""A dataset's page in one browser: cameras in space, the frame with what was found in it, sound, report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nldf_engine.apps.viewer.artist import Artist, Pace
from nldf_engine.apps.viewer.browser import Browser
from nldf_engine.apps.viewer.dataset_picture import (
    SHOWN,
    DatasetPictures,
    DatasetState,
    feature_picture,
    summary,
    validity_strip,
)
from nldf_engine.apps.viewer.frames import frames_of, label_maps_of
from nldf_engine.apps.viewer.playback import Playback
from nldf_engine.apps.viewer.playhead import Playhead
from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.geometry.rotations import HEAD_NUMBERS, UNITS, head_numbers
from nldf_engine.media.pictures import read_picture

if TYPE_CHECKING:
    import viser

    from nldf_engine.datasets.dataset import Dataset

FRUSTUM = 0.06  # metres
MOST_CAMERAS = 400
CAMERA, NOW, HELD_OUT = (110, 150, 200), (255, 170, 60), (150, 110, 200)
PICTURE = 512  # pixels that the frame is wide in the page
FEATURES = "mel"
SOUND_EVERY = 0.25


class DatasetPage(Browser):
    """One browser that looks at a dataset.

    Args:
        client: the browser.
        dataset: of any layout.
        windows: [T, W, D] its audio features; None where it has no sound.
        sound: [N] at 16 kHz, likewise.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        dataset: Dataset,
        windows: np.ndarray | None,
        sound: np.ndarray | None,
    ) -> None:
        super().__init__(client)
        self.dataset, self._windows = dataset, windows
        self._pictures = DatasetPictures(dataset, frames_of(dataset), label_maps_of(dataset))
        self._state = DatasetState()
        self._playhead = Playhead(len(dataset))
        self._playback = Playback(None if sound is None else (sound[:, None], SAMPLE_RATE))
        self._followed = 0.0
        self._numbers = head_numbers(torch.from_numpy(np.asarray(dataset.poses, np.float32))).numpy()
        self._build_panel()
        self._build_controls()
        self._cameras()
        pace = Pace(PICTURE)
        self._artist: Artist[DatasetState, np.ndarray] = Artist(
            lambda state, width: self._pictures.draw(state, PICTURE), self._show, self.complain, pace,
            lambda: replace(self._state, frame=self._playhead.frame) if self._playhead.playing else None,
        )  # fmt: skip
        self._artist.start()
        self._redraw()

    def close(self) -> None:
        """The browser has gone."""
        self._playhead.pause()
        self._artist.stop()

    def _build_panel(self) -> None:
        gui, blank = self.client.gui, np.full((64, 64, 3), 30, np.uint8)
        panel = gui.add_panel()
        with panel.add_tab("Frame"):
            self._image = gui.add_image(blank, format="jpeg", jpeg_quality=90)
            gui.add_image(
                validity_strip(self.dataset), label="green: trained on, blue: held out, red: not valid"
            )
            self._said = gui.add_markdown("")
            if self._windows is not None:
                self._features = gui.add_image(
                    feature_picture(self._windows, 0), label=f"{FEATURES} features"
                )
        report = self._report()
        if report is not None:
            with panel.add_tab("Report"):
                gui.add_image(report)
        panel.dock_left()
        panel.set_width(460)

    def _report(self) -> np.ndarray | None:
        path = self.dataset.path / "report.png"
        if not path.is_file():
            return None
        try:
            return read_picture(path, "prepare it again")
        except FileProblem:
            return None

    def _build_controls(self) -> None:
        gui, guarded = self.client.gui, self.guarded
        gui.add_markdown(summary(self.dataset))
        with gui.add_folder("Time"):
            self._slider = gui.add_slider("frame", 0, max(1, len(self.dataset) - 1), 1, 0)
            self._slider.on_update(guarded(self._scrub))
            buttons = gui.add_button_group("", ("play", "pause", "back"))
            buttons.on_click(guarded(self._press))
            self._sound = gui.add_html("")
        with gui.add_folder("Show"):
            shown = gui.add_dropdown("picture", SHOWN, initial_value=SHOWN[0])
            labels = gui.add_slider("label maps", 0.0, 1.0, 0.05, self._state.labels)
            marks = gui.add_checkbox("landmarks", self._state.landmarks)
            every = gui.add_slider("a camera every", 1, 100, 1, self._state.cameras, hint="frames")
        shown.on_update(guarded(lambda event: self._change(shown=event.target.value)))
        labels.on_update(guarded(lambda event: self._change(labels=float(event.target.value))))
        marks.on_update(guarded(lambda event: self._change(landmarks=bool(event.target.value))))
        every.on_update(guarded(self._thin))

    # Space.

    def _cameras(self) -> None:
        scene, dataset = self.client.scene, self.dataset
        step = max(self._state.cameras, -(-len(dataset) // MOST_CAMERAS))
        scene.add_point_cloud(
            "/face",
            rest_landmarks().astype(np.float32),
            (225, 190, 170),
            point_size=0.0022,
            point_shape="circle",
        )
        scene.remove_by_name("/cameras")
        for frame in range(0, len(dataset), step):
            held = frame >= dataset.info.splits["train"][1]
            self._frustum(f"/cameras/{frame}", frame, HELD_OUT if held else CAMERA, 0.5)
        self._now = self._frustum("/now", self._state.frame, NOW, 1.0)

    def _frustum(self, name: str, frame: int, colour: tuple[int, int, int], size: float) -> Any:
        camera = self.dataset.camera
        wxyz, place = quaternion_of(self.dataset.poses[frame])
        return self.client.scene.add_camera_frustum(
            name, fov=2 * math.atan(camera.height / (2 * camera.fy)), aspect=camera.width / camera.height,
            scale=size * FRUSTUM, thickness=1.5, thickness_units="screen", color=colour,
            wxyz=wxyz, position=place,
        )  # fmt: skip

    # What happens.

    def _show(self, picture: np.ndarray, full: bool) -> None:
        frame = self._playhead.frame
        self._image.image = picture
        wxyz, place = quaternion_of(self.dataset.poses[frame])
        with self.client.atomic():
            self._now.wxyz, self._now.position = wxyz, place
            self._now.image = picture if full else None
        now = time.monotonic()
        if not full and now - self._followed < SOUND_EVERY:
            return
        self._followed = now
        if self._slider.value != frame:
            self._slider.value = frame
        if not self._playhead.playing:
            self._sound.content = ""
        if self._windows is not None:
            self._features.image = feature_picture(self._windows, frame)
        self._said.content = describe(self.dataset, self._numbers, frame)

    def _change(self, **fields: Any) -> None:
        self._state = replace(self._state, **fields)
        self._redraw()

    def _thin(self, event: Any) -> None:
        self._change(cameras=int(event.target.value))
        self._cameras()

    def _redraw(self) -> None:
        self._artist.change(replace(self._state, frame=self._playhead.frame))

    def _press(self, event: Any) -> None:
        word = event.target.value
        self._sound.content = ""
        if word == "play":
            self._playhead.play()
            self._sound.content = self._playback.html(self._playhead.frame / FPS)
        else:
            self._playhead.pause()
        if word == "back":
            self._playhead.seek(0)
        self._redraw()

    def _scrub(self, event: Any) -> None:
        self._playhead.seek(int(event.target.value))
        if self._playhead.playing:
            self._sound.content = self._playback.html(self._playhead.frame / FPS)
        self._redraw()


def quaternion_of(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(w, x, y, z) and place of a pose [4, 4]."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(np.asarray(pose[:3, :3], np.float64)).as_quat()
    return np.array([w, x, y, z]), np.asarray(pose[:3, 3], np.float64)


def describe(dataset: Dataset, numbers: np.ndarray, frame: int) -> str:
    """What is known of a frame, in Markdown: time, validity, eyes and the head's numbers [T, 6]."""
    head = ", ".join(
        f"{name} {value:.{1 if unit == 'degrees' else 3}f}{'°' if unit == 'degrees' else ' m'}"
        for name, unit, value in zip(HEAD_NUMBERS, UNITS, numbers[frame], strict=True)
    )
    part = next((name for name, (a, b) in dataset.info.splits.items() if a <= frame < b), "no part")
    valid = "valid" if dataset.valid[frame] else "**not valid**"
    return (
        f"**frame {frame}**, {frame / dataset.info.fps:.2f} s, {part}, {valid}  \n"
        f"eyes open {dataset.eye_openness[frame]:.3f}  \n{head}"
    )


def open_dataset_page(
    server: viser.ViserServer, dataset: Dataset
) -> Callable[[viser.ClientHandle], DatasetPage]:
    """Readies a server for a dataset; returns what makes a browser's page."""
    server.scene.set_up_direction((0.0, -1.0, 0.0))
    center = np.asarray(dataset.poses[:, :3, 3], np.float64).mean(0)
    server.initial_camera.position = tuple(center * 1.3 + (0.6, -0.3, 0.0))
    server.initial_camera.look_at = tuple(center * 0.55)
    sound: np.ndarray | None = None
    windows: np.ndarray | None = None
    try:
        sound, windows = dataset.audio(), dataset.audio_features(FEATURES)
    except FileProblem as problem:
        print(f"without sound: {problem}")
    return lambda client: DatasetPage(client, dataset, windows, sound)
