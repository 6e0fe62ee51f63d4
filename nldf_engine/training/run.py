"""A whole run: datasets and preset in, avatars out."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nldf_engine.audio import FrontendConfig, prepared_frontend
from nldf_engine.avatar import Avatar
from nldf_engine.avatar.avatar import check_target
from nldf_engine.base.assets import read_asset
from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import check_writable, overlap, write_json
from nldf_engine.base.json import read_back
from nldf_engine.base.lock import owned
from nldf_engine.base.results import key_of
from nldf_engine.base.version import __version__
from nldf_engine.datasets import open_dataset
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.stretch import Stretch, best_stretch, limited
from nldf_engine.ops.device import choose_device
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.conditions import ConditionConfig, FrameEncoder
from nldf_engine.systems.registry import find_system
from nldf_engine.training import distributed
from nldf_engine.training.bases import BUNDLED, NAME, Base, find_base, read_base, write_base
from nldf_engine.training.checkpoint import RunState
from nldf_engine.training.config import LONGEST_MINUTES, TrainConfig, TrainResult
from nldf_engine.training.motion import UPPER_CODES
from nldf_engine.training.outcome import consent_for, make_avatar, spent, tell_replaced
from nldf_engine.training.presets import Preset, find_preset, recipe_module, with_overrides
from nldf_engine.training.recipe import LARGEST_SIZE
from nldf_engine.training.resume import find_run, open_run, targets_key
from nldf_engine.training.scene import MOST_BYTES, RayScene, Scenes
from nldf_engine.training.stages import Run, Stage, own_modules
from nldf_engine.training.targets import ray_head
from nldf_engine.training.trainer import Budget, Trainer

SMALLEST = 16
DatasetPaths = str | Path | Sequence[str | Path]


def _apply(preset: str | Preset, config: TrainConfig, speakers: int) -> Preset:
    """The preset under the settings of a run over so many speakers.

    Raises:
        ValueError: see `check_settings`.
    """
    if isinstance(preset, Preset):
        preset = with_overrides(preset, config.overrides)
    else:
        preset = find_preset(preset, config.overrides)
    changes = {name: value for name in ("size", "steps") if (value := getattr(config, name)) is not None}
    recipe = dataclasses.replace(preset.recipe, **changes)
    if not SMALLEST <= recipe.size <= LARGEST_SIZE:
        raise ValueError(f"size: expected {SMALLEST} to {LARGEST_SIZE} pixels, got {recipe.size}")
    if config.minutes is not None and not 0 < config.minutes <= LONGEST_MINUTES:
        raise ValueError(f"minutes: expected a positive budget of at most a year, got {config.minutes}")
    if config.teacher is not None and not hasattr(recipe, "distillation"):
        raise ValueError(f"teacher: {preset.system!r} does not learn from a teacher; NLDF presets do")
    if config.base is not None and not recipe.uses_base:
        raise ValueError(f"base: {preset.system!r} begins from no base; leave it out")
    if config.base is not None and config.head is not None:
        raise ValueError("base, head: a given head is kept as it is; give one of the two")
    if config.weights is not None and not recipe.uses_weights:
        raise ValueError(f"weights: the losses of {preset.system!r} use no public weights; leave it out")
    torso = recipe.torso
    if config.head is not None and torso.kind not in torso.trained_after:
        known = " or ".join(kind for kind in recipe.torsos if kind in torso.trained_after) or "none here"
        raise ValueError(
            f"head: with a given head only a torso is trained, of a kind that comes after it ({known}), not "
            f"a {torso.kind}"
        )
    _check_speakers(config, speakers)
    return dataclasses.replace(preset, recipe=recipe)


def check_settings(preset: str | Preset, config: TrainConfig, speakers: int = 1) -> None:
    """What `train` checks of its settings, without looking at any file.

    Args:
        preset, config: as for `train`.
        speakers: how many datasets the run is over.

    Raises:
        ValueError: an unknown preset, system or setting, a value out of range, or a consent for several
            speakers.
    """
    _apply(preset, config, speakers)


def train(
    preset: str | Preset, dataset: DatasetPaths, avatar: str | Path, config: TrainConfig | None = None
) -> TrainResult:
    """Trains `preset` on one dataset folder, or on several, and writes an avatar folder for each.

    The preset is the name of a registered one, or a `Preset` made in Python, which provenance then calls by
    its `name`, or by its system where it has none; `config` changes its recipe just as a registered one's.
    Resuming checks its name and recipe, and that the checkpoint's tensors fit its network.
    The run's own folder is `AVATAR.training`: checkpoints, TensorBoard events, curves, teacher's targets. The
    avatar of the second dataset is `AVATAR-2`, and so on.

    No loss, choice or saved tensor depends on the held-out frames. The last tenth of the training part is for
    validation: no step trains on it, and the weights with the best validation are kept. With `final_share`
    a run ends by training on all of the training part instead, and its last weights are kept. After that, the
    network that predicts the mouth's motion from speech is trained again, also on all of the training part.

    With `config.resume` the budget may be larger than the checkpoint's. The learning rate then follows the
    schedule of the larger budget from that step on, so it rises first.

    Programs that call `train` repeatedly may want `base.memory.keep_freed_memory`, which the command line
    calls. Started by torchrun, all processes train one run together, and share the rays of each step
    (`training.distributed`): the result is that of one process, but for rounding.

    Raises:
        FileProblem: a dataset, teacher or output folder can't be used, or another process writes there.
        ProcessFailed: of several processes, whatever went wrong in one; the message says in which.
        ValueError: an unknown preset, system or setting, a value out of range, or a consent for several
            speakers.
    """
    config = config or TrainConfig()
    paths = [dataset] if isinstance(dataset, str | Path) else list(dataset)
    found = _apply(preset, config, len(paths))
    with distributed.processes(choose_device(config.device)) as device:
        # Of several processes of one run the first one writes.
        outputs = _avatar_paths(Path(avatar), len(paths)) if distributed.is_first() else []
        with owned(*outputs):
            return _Training(found, config, paths, Path(avatar), device).run()


def _check_speakers(config: TrainConfig, speakers: int) -> None:
    """Checks what holds for one speaker alone.

    Raises:
        ValueError: a consent, which is one person's, for several; or a step to keep whose avatar would have
            another speaker's name.
    """
    if speakers > 1 and config.consent is not None:
        raise ValueError(
            f"consent: it is one person's, and there are {speakers} speakers; train each one's avatar alone"
        )
    if taken := [step for step in config.keep if 2 <= step <= speakers]:
        raise ValueError(
            f"keep: with {speakers} speakers AVATAR-{taken[0]} is a speaker's avatar; keep a step of more "
            f"than {speakers}"
        )


def _check_different(data: Sequence[Dataset], hashes: Sequence[str]) -> None:
    """Checks that no dataset is given twice, by what is in them.

    Raises:
        FileProblem: one is.
    """
    for place, one in enumerate(hashes):
        if one in hashes[:place]:
            raise FileProblem(
                data[place].path, f"it is the same dataset as {data[hashes.index(one)].path}, and each is a "
                "speaker's own", "name it once",
            )  # fmt: skip


class _Training:
    """One call of `train`: inputs are opened, stages built and trained, avatars written."""

    def __init__(
        self, preset: Preset, config: TrainConfig, paths: Sequence[str | Path], avatar: Path,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.config, self.preset = config, preset
        self.avatars = [check_target(path) for path in _avatar_paths(avatar, len(paths))]
        self.kept = {
            step: [check_target(path.with_name(f"{path.name}-{step}")) for path in self.avatars]
            for step in config.keep
        }
        self.folder = check_writable(avatar.with_name(avatar.name + ".training"), folder=True)
        base = _base_path(preset, config)
        for read in (*paths, config.teacher, config.head, base):
            if read is not None and any(overlap(path, read) for path in self.avatars):
                raise FileProblem(
                    avatar, f"it overlaps with {read}, which is read from",
                    "choose an output path apart from it",
                )  # fmt: skip
        if base is not None and overlap(self.folder, base):
            raise FileProblem(
                base, f"it is in the folder of the run that is to begin from it ({self.folder})",
                "choose another output path, or copy the base elsewhere",
            )  # fmt: skip
        self.data = [open_dataset(path) for path in paths]
        for data in self.data:
            # The full check: the hash below reads every byte of the data anyway.
            data.check_unchanged()
        self.stretches = [] if config.seconds is None else _choose(self.data, config.seconds)
        if self.stretches:
            self.data = [limited(*pair) for pair in zip(self.data, self.stretches, strict=True)]
        made = dict(config.overrides) | ({} if config.steps is None else {"steps": str(config.steps)})
        self.preset = preset = _sized(preset, config, self.data).fitted(made)
        self.run_ = self._open(device, None if base is None else read_base(base))
        self.stages: list[Stage] = recipe_module(find_system(preset.system)).stages(self.run_)
        self.trained = [stage for stage in self.stages if stage.objective is not None]
        if len({stage.folder for stage in self.trained}) < len(self.trained):
            named = ", ".join(f"{stage.name} in {stage.folder!r}" for stage in self.trained)
            raise ValueError(f"stages: expected a checkpoint folder of its own for each, got {named}")
        # The stage whose metrics are the main ones of provenance and result.
        self.head = next((stage.name for stage in self.stages if stage.keeps), "")
        self.settings = self._settings()

    def _open(self, device: torch.device, base: Base | None) -> Run:
        config, recipe = self.config, self.preset.recipe
        distils = getattr(recipe, "distillation", None)
        teacher = _load_given(config.teacher if distils and distils.on else None, self.data, "teacher")
        given = _load_given(config.head, self.data, "head")
        source = given or teacher
        if source is not None and (config.audio_frontend, config.look_ahead) != (None, None):
            raise ValueError("audio_frontend, look_ahead: they are those of the given teacher or head")
        reach = FrameEncoder(ConditionConfig(motion=recipe.driving.motion_codes)).reach[1] / FPS
        frontend = _frontend(self.data, config, reach) if source is None else source.frontend
        torch.manual_seed(config.seed)
        layer = recipe.torso.kind == "layer"
        most = MOST_BYTES // len(self.data)
        made = (RayScene(data, recipe.size, frontend, device, layer, most=most) for data in self.data)
        scenes = Scenes(list(made))
        for scene in scenes:
            if scene.every > 1:
                sys.stderr.write(
                    f"{scene.dataset.path}: of {len(scene.heard)} frames one in {scene.every} is looked at, "
                    f"and all are listened to: their pictures would take over {MOST_BYTES / 1e9:.1f} GB\n"
                )
        return Run(self.preset, config, scenes, frontend, device, teacher, given, base)

    def _settings(self) -> dict[str, Any]:
        """Everything that determines the course of a run, as JSON."""

        def digest(path: Path | None) -> str | None:
            if path is None:
                return None
            return hashlib.sha256((Path(path) / "avatar.json").read_bytes()).hexdigest()

        hashes = [data.hash() for data in self.data]
        _check_different(self.data, hashes)
        return {
            "preset": self.preset.label, "recipe": read_back(self.preset.recipe),
            "dataset": hashes[0] if len(hashes) == 1 else hashes,
            "teacher": digest(self.config.teacher), "head": digest(self.config.head),
            "phases": [stage.name for stage in self.trained],
            "seed": self.config.seed, "minutes": self.config.minutes, "audio": self.run_.frontend.to_json(),
            **({"upper": UPPER_CODES} if self.preset.recipe.driving.upper_codes else {}),
            **({"notes": self.run_.notes} if self.run_.notes else {}),
            **({"base": self.run_.base.record()} if self.run_.base else {}),
            **({"stretches": [dataclasses.asdict(one) for one in self.stretches]} if self.stretches else {}),
        }  # fmt: skip

    def run(self) -> TrainResult:
        """Builds and trains the stages in turn, and writes the avatars."""
        run, config = self.run_, self.config
        run.begun = find_run(self.folder, self.trained, self.settings, self.preset.recipe, config.resume)
        distributed.check_same(key_of(self.settings, run.begun), "dataset, checkpoint or setting")
        for stage in self.stages:
            stage.build(run)
        distributed.wait()  # others may still be reading what is deleted now
        if distributed.is_first():
            if not config.resume:
                tell_replaced(self.avatars)
            open_run(self.folder, self.trained, run.begun)
        distributed.wait()
        run.targets = (config.targets or self.folder / "targets") / targets_key(self.settings)
        self.consents = [
            consent_for(data, config.consent or (run.source.consent if run.source else None))
            for data in self.data
        ]
        states: dict[str, RunState] = {}
        for stage in self.stages:
            if stage.objective is not None:
                states[stage.name] = self._train(stage)
                continue
            if stage.seed is not None:
                torch.manual_seed(config.seed + stage.seed)
            stage.start(run)
        if distributed.is_first():
            self._save([subject.portrait for subject in run.subjects], self.avatars, states)
            if self.base_made is not None:
                self._write_base(self.base_made, states)
        return self._result(states)

    def _train(self, stage: Stage) -> RunState:
        run, config = self.run_, self.config
        assert stage.objective is not None
        stage.start(run)
        objectives = [stage.objective(run, subject) for subject in run.subjects]
        recipe = stage.recipe(run.recipe)
        budget = Budget(stage.steps(run.recipe), self._minutes(stage))
        seed = config.seed + (stage.seed or 0)
        trainer = Trainer(
            run.subjects,
            objectives,
            recipe,
            budget,
            RunState(self.settings),
            self.folder / stage.folder,
            seed,
            config.graphs,
            config.matmul,
        )
        torch.manual_seed(seed)
        if stage.name in run.begun:
            trainer.resume()
            trainer.state.settings, trainer.state.finished = self.settings, False
        if stage.keeps:
            trainer.keep = dict.fromkeys(config.keep, self._keep)
        trainer.run(f"train {self.preset.label}{stage.label}")
        return trainer.state

    def _minutes(self, stage: Stage) -> float | None:
        """The stage's share of a time budget, in proportion to its steps."""
        minutes, recipe = self.config.minutes, self.preset.recipe
        if minutes is None or len(self.trained) == 1:
            return minutes
        return minutes * stage.steps(recipe) / sum(each.steps(recipe) for each in self.trained)

    def _keep(self, portraits: list[Portrait], state: RunState) -> None:
        if distributed.is_first():
            self._save(portraits, self.kept[state.step], {self.head: state})

    def _save(self, portraits: Sequence[Portrait], paths: list[Path], states: dict[str, RunState]) -> None:
        """Writes an avatar for each speaker."""
        head = states.get(self.head, RunState(self.settings))
        provenance = {
            "machine": platform.machine(), "threads": torch.get_num_threads(), "settings": self.settings,
            **({"matmul": self.config.matmul} if self.run_.device.type == "cuda" else {}),
            **spent(head), **{name: spent(state) for name, state in states.items() if name != self.head},
        }  # fmt: skip
        given = zip(portraits, self.run_.subjects, paths, self.consents, strict=True)
        for portrait, subject, path, consent in given:
            size = self.preset.recipe.size
            made = make_avatar(portrait, subject.scene, self.run_.frontend, size, consent, provenance)
            made.save(path)

    @property
    def base_made(self) -> Path | None:
        """The file of the base that the run makes: of several speakers, where the recipe has bases, and the
        network is not conditioned on who speaks."""
        recipe = self.preset.recipe
        makes = recipe.uses_base and len(self.data) > 1 and not recipe.driving.identity_codes
        return self.folder / NAME if makes else None

    def _write_base(self, path: Path, states: dict[str, RunState]) -> None:
        """Writes what the speakers share; of a synthetic speaker it says so, of others only their hash."""
        network = ray_head(self.run_.subjects[0].portrait).field
        speakers = [
            {"dataset": data.hash(), "kind": data.info.source.get("kind", "video"),
             "frames": len(data.indices("train"))}
            for data in self.data
        ]  # fmt: skip
        provenance = {
            "package": __version__, "trained_on": speakers, "settings": self.settings,
            **spent(states.get(self.head, RunState(self.settings))),
        }  # fmt: skip
        write_base(path, network, own_modules(network), self.preset.label, self.run_.frontend, provenance)

    def _result(self, states: dict[str, RunState]) -> TrainResult:
        head = states.get(self.head, RunState(self.settings))
        later = [state for name, state in states.items() if name != self.head]
        last = later[-1] if later else head
        if distributed.is_first():
            write_json(self.folder / "history.json", head.history)
        return TrainResult(
            self.avatars[0], head.step + sum(state.step for state in later),
            head.seconds + sum(state.seconds for state in later), float(last.best_psnr or 0.0), head.history,
            later[-1].history if later else [], tuple(self.avatars), self.base_made,
        )  # fmt: skip


def _avatar_paths(avatar: Path, speakers: int) -> list[Path]:
    """The first speaker's avatar, and those of the others beside it."""
    return [avatar, *(avatar.with_name(f"{avatar.name}-{number}") for number in range(2, speakers + 1))]


def _base_path(preset: Preset, config: TrainConfig) -> Path | None:
    """The file of the base that a run begins from; None for none.

    Raises:
        FileProblem: there is none.
        ValueError: none comes with the package for this preset.
    """
    if config.base is None:
        return None
    if str(config.base) != BUNDLED:
        return find_base(config.base)
    bundled = preset.bundled_base
    if bundled is None:
        raise ValueError(f"base: none comes with the package for {preset.label}; give a file, or none")
    read_asset(bundled.path, bundled.sha256)
    return bundled.path


def _sized(preset: Preset, config: TrainConfig, data: Sequence[Dataset]) -> Preset:
    """The preset at the size that the videos can fill, which standard error names.

    Its own where a size is set, or by a base, whose grids are of the preset's size.
    """
    if not preset.sizes or config.size is not None or config.base is not None or "size" in config.overrides:
        return preset
    filmed = min(one.filmed_width for one in data)
    chosen = preset.at_size_of(filmed)
    size = chosen.recipe.size
    sys.stderr.write(
        f"trained at {size} x {size}: what the frames show was filmed with {filmed:.0f} pixels; --size sets "
        "another size\n"
    )
    return chosen


def _choose(data: Sequence[Dataset], seconds: float) -> list[Stretch]:
    """The best stretch of each dataset, which standard error names."""
    chosen = [best_stretch(one, seconds) for one in data]
    for one, stretch in zip(data, chosen, strict=True):
        sys.stderr.write(f"{one.path}: trained on {stretch}\n")
    return chosen


def _frontend(data: Sequence[Dataset], config: TrainConfig, reach: float) -> FrontendConfig:
    """The front-end that the settings name, or that the datasets were prepared with.

    Args:
        data: the datasets.
        config: the settings.
        reach: seconds beyond a frame's own features that its driver takes into account.

    Raises:
        ValueError: the datasets were prepared with different ones; or a look-ahead that it can't keep to.
    """
    if config.audio_frontend is not None:
        found = [FrontendConfig.parse(config.audio_frontend)]
    else:
        found = [prepared_frontend(one.info.audio) for one in data]
    if any(other != found[0] for other in found):
        names = ", ".join(config.name for config in found)
        raise ValueError(
            f"dataset: expected one audio front-end in all datasets, got {names}; name the one to train with "
            "(audio_frontend, --audio-frontend)"
        )
    chosen = found[0]
    if config.look_ahead is not None:
        chosen = chosen.looking_ahead(config.look_ahead / 1000 - reach)
    return chosen.resolve()


def _load_given(path: Path | None, data: Sequence[Dataset], what: str) -> Avatar | None:
    """Loads a teacher, or the avatar of `head`; refused where held-out frames may be in its training."""
    if path is None:
        return None
    given = Avatar.load(path)
    if given.provenance.get("dataset") not in [one.hash() for one in data]:
        raise FileProblem(
            Path(path), f"it was trained on another dataset than this one, so it can't be the {what}",
            f"train the {what} on the same dataset",
        )  # fmt: skip
    return given
