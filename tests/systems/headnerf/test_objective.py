"""The losses: their terms, what reaches what, and what an ablation leaves out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fields import seeded
from nldf_engine.base.errors import FileProblem
from nldf_engine.nn.perceptual import StructureLoss
from nldf_engine.systems.headnerf.extractor import CodeExtractor
from nldf_engine.systems.headnerf.model import HeadNeRF
from nldf_engine.systems.headnerf.objective import HeadNeRFObjective
from nldf_engine.systems.headnerf.objective.contrast import References
from nldf_engine.systems.headnerf.objective.lips import LipWindows, train_lips
from nldf_engine.systems.headnerf.objective.swaps import Known, Swap, draw_swap, drawn_face, swap_loss
from nldf_engine.systems.headnerf.recipe import HeadTraining, check_frames
from nldf_engine.training import Preset, TrainConfig, find_preset
from nldf_engine.training.checkpoint import RunState
from nldf_engine.training.objective import squared
from nldf_engine.training.scene import RayScene, Scenes
from nldf_engine.training.stages import Run
from nldf_engine.training.trainer import Budget, Trainer, parameter_groups


def training(scenes: Scenes, **overrides: Any) -> tuple[HeadTraining, Run]:
    """A run of both speakers, ready to train, without its slow stages."""
    preset = find_preset("headnerf-tiny", {name: str(value) for name, value in overrides.items()})
    run = Run(preset, TrainConfig(), scenes, scenes[0].frontend, torch.device("cpu"))
    torch.manual_seed(0)
    made = HeadTraining(run, preset.recipe, StructureLoss())
    made.build(run)
    for subject in run.subjects:
        scene, driver = subject.scene, subject.portrait.head.driver
        generator = seeded(scene.identity)
        frames = len(scene.frames)
        scene.set_track("motion", torch.randn(frames, 4, generator=generator))
        scene.set_track("upper", torch.randn(frames, 2, generator=generator))
        driver.expression.usual.zero_()
    sizes = run.subjects[0].portrait.head.config.codes
    held = {}
    for scene in scenes:
        blank = References.unknown(len(scene.frames), sizes).tensors()
        generator = seeded(7 + scene.identity)
        held[scene.identity] = References(
            **{name: torch.randn(value.shape, generator=generator) for name, value in blank.items()}
        )
    made.known = Known(CodeExtractor(sizes).eval().requires_grad_(False), held)
    return made, run


def objective(scenes: Scenes, number: int = 0, **overrides: Any) -> HeadNeRFObjective:
    made, run = training(scenes, **overrides)
    return made.objective(run, run.subjects[number])


def test_frames_come_in_neighbouring_pairs(scenes: Scenes) -> None:
    """Each frame is followed by the next, both of the pool."""
    made = objective(scenes, **{"sampling.frames": 6})
    for seed in range(5):
        frames = made.pairs(seeded(seed))
        assert len(frames) == 6 and torch.equal(frames[1::2], frames[::2] + 1)
        assert bool(torch.isin(frames, scenes[0].fit).all())
    scenes[0].frame_pool = scenes[0].fit[::2]
    with pytest.raises(ValueError, match=r"eq\. \(7\) expects neighbouring training frames"):
        made.pairs(seeded())


def test_every_term_is_in_the_sum_and_an_ablation_leaves_its_own_out(scenes: Scenes) -> None:
    """All of eq. (2) to (8); a weight of zero takes one term out and leaves the others."""
    always = {"perceptual_share": 1, "swap_share": 1, "swap_after": 0, "relight_share": 0}
    every = {"photometric", "velocity", "perceptual", "opacity", "disentangle", "swap", "sync"}
    loss = objective(scenes, **always)(seeded())
    assert set(loss.logged) == {"pixel", *every}
    total = sum(float(value) for name, value in loss.logged.items() if name != "pixel")
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-5)
    for weight, gone in (("velocity_weight", {"velocity"}), ("perceptual_weight", {"perceptual"})):
        assert set(objective(scenes, **always, **{weight: 0})(seeded()).logged) == {"pixel", *every} - gone
    without = objective(scenes, **always, sync_weight=0)
    assert without.head.driver.lip is None
    assert set(without(seeded()).logged) == {"pixel", *every} - {"sync"}


def test_gradients_reach_every_part(scenes: Scenes) -> None:
    """Volume, renderer, tables, maps, lip module, offsets: no parameter that is trained is left out."""
    made = objective(scenes, perceptual_share=1, swap_share=1, swap_after=0, relight_share=1, offset_share=1)
    loss = made(seeded(1)).total
    loss.backward()
    trained = [*made.head.named_parameters(), *made.offsets.named_parameters()]
    silent = [name for name, p in trained if p.requires_grad and (p.grad is None or not bool(p.grad.any()))]
    assert silent == []
    assert all(p.grad is None for p in made.known.extractor.parameters())
    groups = parameter_groups(made.head, [made], made.recipe)
    counted = {id(p) for group in groups for p in group["params"]}
    assert {id(p) for _, p in trained if p.requires_grad} <= counted


def test_a_still_pair_that_is_drawn_right_has_no_velocity(scenes: Scenes) -> None:
    """Eq. (7) sees errors that change from one frame to the next, and no others."""
    made = objective(scenes, perceptual_weight=0)
    frames = torch.tensor([4, 5])
    batch = made._batch(frames, torch.zeros(2, 3))
    constant = made._picture_losses(batch.target + 0.1, batch, seeded())
    assert float(constant["velocity"]) == pytest.approx(0, abs=1e-8)
    assert float(constant["photometric"]) == pytest.approx(3 * 0.01, rel=1e-4)
    flicker = torch.stack([batch.target[0] + 0.1, batch.target[1] - 0.1])
    moved = made._picture_losses(flicker, batch, seeded())
    assert float(moved["velocity"]) == pytest.approx(10 * 3 * 0.04, rel=1e-3)


def test_the_photometric_error_is_the_faces(scenes: Scenes) -> None:
    """Eq. (5): errors off the head and its rim cost nothing, about the lips more than elsewhere."""
    made = objective(scenes, perceptual_weight=0, detail_weight=3)
    batch = made._batch(torch.tensor([4, 5]), torch.zeros(2, 3))
    area = made._area(batch)
    assert set(area.unique().tolist()) == {0.0, 1.0, 3.0}
    assert bool((area[batch.mask > 0] >= 1).all())
    wrong = torch.where(area[..., None] == 0, batch.target + 1, batch.target)
    assert float(made._picture_losses(wrong, batch, seeded())["photometric"]) == 0


def test_added_light_is_on_the_head_alone(scenes: Scenes) -> None:
    """The target's head is brighter by what was added, its background as it was; the code knows."""
    made = objective(scenes)
    light = torch.tensor([[0.2, 0.0, 0.0]]).repeat(2, 1)
    frames = torch.tensor([4, 5])
    plain, lit = made._batch(frames, torch.zeros(2, 3)), made._batch(frames, light)
    head = plain.mask > 0
    assert torch.equal(lit.target[~head], plain.target[~head])
    wanted = (plain.target[head] * np.exp(0.2)).clamp(0, 1)
    torch.testing.assert_close(lit.target[head], wanted, atol=1e-5, rtol=1e-5)
    place = made.places["illumination"]
    before, after = (made.codes(frames, one, seeded()) for one in (torch.zeros(2, 3), light))
    shift = made.head.driver.illumination.linear(light)
    torch.testing.assert_close((after - before)[:, place], shift, atol=1e-5, rtol=1e-5)


def test_the_disentangling_loss_is_eq_6(scenes: Scenes) -> None:
    """Zero where every code is the pictures'; each lambda weighs its own term."""
    made = objective(scenes)
    own = made.known.speakers[0]
    frames = torch.tensor([4, 5])
    code = torch.zeros(2, made.head.driver.dim)
    for name in ("identity", "albedo"):
        code[:, made.places[name]] = getattr(own, name)
    for name in ("expression", "illumination"):
        code[:, made.places[name]] = getattr(own, name)[frames]
    assert float(made._disentangle(made.known, code, frames, torch.zeros(2, 3), 0)) == pytest.approx(
        0, abs=1e-9
    )
    for name in ("identity", "albedo", "expression", "illumination"):
        other = code.clone()
        other[:, made.places[name]] += 0.5
        found = made._disentangle(made.known, other, frames, torch.zeros(2, 3), 0)
        assert float(found) == pytest.approx(0.25 * getattr(made.recipe.losses, f"{name}_weight"), rel=1e-4)


def test_offsets_are_in_the_training_codes_alone(scenes: Scenes) -> None:
    """Half of the pairs hold them, an avatar's driver does not, and frames that join begin without."""
    made = objective(scenes, offset_share=1)
    frames = torch.tensor([4, 5])
    plain = made.codes(frames, torch.zeros(2, 3), seeded())
    with torch.no_grad():
        made.offsets.tables["expression"].fill_(0.3)
    held = made.codes(frames, torch.zeros(2, 3), seeded())
    torch.testing.assert_close((held - plain)[:, made.places["expression"]], torch.full((2, 8), 0.3))
    assert torch.equal(held[:, made.places["identity"]], plain[:, made.places["identity"]])
    made.begin(torch.tensor([4]))
    assert float(made.offsets.tables["expression"][4].detach().abs().max()) == 0
    assert float(made.offsets.tables["expression"][5].detach().min()) > 0
    assert not any("offset" in name for name in made.head.state_dict())


def test_a_swap_takes_one_code_of_another(scenes: Scenes) -> None:
    """Never the speaker's own identity; with one speaker expressions alone are exchanged."""
    drawn = [draw_swap(0, 2, scenes[0].fit, seeded(seed)) for seed in range(30)]
    assert {swap.factor for swap in drawn} == {"identity", "albedo", "expression"}
    assert all(swap.speaker == 1 for swap in drawn)
    alone = [draw_swap(0, 1, scenes[0].fit, seeded(seed)) for seed in range(9)]
    assert {(swap.factor, swap.speaker) for swap in alone} == {("expression", 0)}


def test_a_swap_is_right_where_the_picture_has_the_wanted_codes(scenes: Scenes) -> None:
    """Zero for another's albedo and all else of one's own, more for one's own albedo."""
    made = objective(scenes)
    own, other = (made.known.speakers[number] for number in (0, 1))
    seen = {
        "identity": own.identity[None], "albedo": other.albedo[None], "expression": own.seen_expression[4:5],
        "illumination": own.seen_light[4:5],
    }  # fmt: skip
    swap = Swap("albedo", 1, 9)
    assert float(swap_loss(seen, swap, own, other, 4)) == pytest.approx(0, abs=1e-6)
    seen["albedo"] = own.albedo[None]
    assert float(swap_loss(seen, swap, own, other, 4)) > 0.05


def test_a_drawn_face_is_cut_as_the_extractors_are(scenes: Scenes) -> None:
    """From a real frame, it is the face that the references were made of."""
    from nldf_engine.systems.headnerf.objective.faces import Looks, changed_faces, cut_faces

    made, number = objective(scenes), 7
    frame = scenes[0].frames[number].float() / 255
    ours = drawn_face(frame, made._faces[number])
    theirs = changed_faces(cut_faces(scenes[0], torch.tensor([number])), Looks.none(1))
    assert float((ours - theirs).abs().mean()) < 0.03


def test_lips_and_sound_of_one_moment_meet(scenes: Scenes, capsys: pytest.CaptureFixture[str]) -> None:
    """After some steps of eq. (8) the true sound is preferred; windows lie within the training frames."""
    made, run = training(scenes)
    windows = made.windows(run.subjects[0])
    assert windows is not None and bool(torch.isin(windows.frames, scenes[0].fit).all())
    train_lips([windows], 60, seeded())
    assert windows.accuracy() > 0.8 and "prefers the true sound" in capsys.readouterr().err
    first, second = (windows.loss(8, seeded(3)) for _ in range(2))
    assert torch.equal(first, second) and first.requires_grad


def test_a_video_too_short_for_negatives_is_refused(scenes: Scenes) -> None:
    """With the number of stretches, and the remedy."""
    _, run = training(scenes)
    scenes[0].heard = scenes[0].fit[:20]
    driver = run.subjects[0].portrait.head.driver.lip
    with pytest.raises(ValueError, match=r"sync_weight: .* has 13 stretches; .*--set sync_weight=0"):
        LipWindows(scenes[0], driver)


def test_videos_without_what_a_loss_compares_are_refused_before_training(scenes: Scenes) -> None:
    """The second video alone is at fault: it is named, whichever loss misses its frames."""
    _, run = training(scenes)
    check_frames(run, lips=True)
    scenes[1].heard = scenes[1].fit[:20]
    with pytest.raises(ValueError, match=rf"sync_weight: .* {scenes[1].dataset.path} has"):
        check_frames(run, lips=True)
    check_frames(run, lips=False)
    scenes[1].frame_pool = scenes[1].fit[::2]
    with pytest.raises(ValueError, match=rf"{scenes[1].dataset.path}: eq\. \(7\) expects"):
        check_frames(run, lips=False)


def test_each_speaker_has_a_row_whatever_codes_other_systems_take(scenes: Scenes) -> None:
    """`identity_codes` is a setting of systems whose only code of a speaker it is."""
    made, run = training(scenes, identity_codes=0)
    driver = run.subjects[0].portrait.head.driver
    assert len(driver.identity.table) == len(driver.albedo.table) == 2
    codes = made.objective(run, run.subjects[1]).codes(torch.tensor([4, 5]), torch.zeros(2, 3), seeded())
    assert bool(codes.isfinite().all())


@pytest.mark.parametrize("lost", ["offsets.expression", "speaker.1.albedo", "extractor.color.0.weight"])
def test_a_checkpoint_without_a_code_is_refused(scenes: Scenes, tmp_path: Path, lost: str) -> None:
    """Offsets, references and extractor are all there or the run does not go on; a whole one is restored."""
    made, run = training(scenes)

    def trainer() -> Trainer:
        objectives = [made.objective(run, subject) for subject in run.subjects]
        return Trainer(
            run.subjects, objectives, made.recipe, Budget(5, None), RunState({}), tmp_path, 0
        )  # fmt: skip

    first = trainer()
    first.objectives[1].offsets.tables["expression"].data.fill_(0.3)
    first.save()
    again = trainer()
    again.resume()
    assert float(again.objectives[1].offsets.tables["expression"].detach().min()) == pytest.approx(0.3)
    with safe_open(first.checkpoint, "pt") as stream:
        about = stream.metadata()
    tensors = load_file(first.checkpoint)
    del tensors[f"objective.pool.1.{lost}"]
    save_file(tensors, first.checkpoint, metadata=about)
    with pytest.raises(FileProblem, match=f"what its losses learned is missing.*{lost}.*without --resume"):
        trainer().resume()


def test_speakers_share_all_but_what_is_fitted_to_one(scenes: Scenes) -> None:
    """One volume, renderer and tables; each has its own motion bases and map to expressions."""
    _, run = training(scenes)
    first, second = (subject.portrait.head for subject in run.subjects)
    assert isinstance(first, HeadNeRF) and isinstance(second, HeadNeRF)
    assert first.field.volume is second.field.volume and first.field.renderer is second.field.renderer
    assert first.field.empty is second.field.empty
    assert first.driver.identity is second.driver.identity and first.driver.lip is second.driver.lip
    assert first.driver.expression is not second.driver.expression
    assert first.driver.part("motion") is not second.driver.part("motion")
    assert first.region is not second.region


def test_codes_begin_where_the_extractor_has_them(scenes: Scenes) -> None:
    """Tables hold the speaker's references, the expression is regressed on tracked numbers."""
    made, run = training(scenes)
    subject = run.subjects[1]
    scene, driver = subject.scene, subject.portrait.head.driver
    known = made.known.speakers[1]
    inputs = driver.face(scene.conditions, torch.arange(len(scene.frames)))
    driver.expression.usual.copy_(inputs[scene.fit].mean(0))
    linear = torch.randn(8, inputs.shape[1])
    known = dataclasses.replace(known, expression=(inputs - inputs[scene.fit].mean(0)) @ linear.t())
    driver.expression.linear.weight.data.zero_()
    made.begin_codes(subject, known)
    torch.testing.assert_close(driver.expression(inputs), known.expression, atol=0.15, rtol=0.1)
    assert torch.equal(driver.identity.table[1], known.identity)
    assert torch.equal(driver.albedo.table[1], known.albedo)
    other = dataclasses.replace(known, light_map=3 * known.light_map)
    made.begin_light(subject, [known, other])
    torch.testing.assert_close(driver.illumination.linear.weight, 2 * known.light_map)


def test_a_learned_torso_trains_beside_the_head(scenes: Scenes) -> None:
    """With --set torso=layer its weights get gradients, and its picture is behind the head."""
    data = scenes[0].dataset
    learned = Scenes([RayScene(data, 32, scenes[0].frontend, torch.device("cpu"), learned_torso=True)])
    made = objective(learned, torso="layer", swap_share=0, perceptual_share=0)
    assert made.torso is not None
    loss = made(seeded())
    assert "torso" in loss.logged
    loss.total.backward()
    assert all(p.grad is not None for p in made.torso.parameters() if p.requires_grad)


def test_pixel_is_the_whole_pictures_error(scenes: Scenes) -> None:
    """What the progress bar shows: squared error summed over colours, of the composited picture."""
    made = objective(scenes, relight_share=0, perceptual_share=0, swap_share=0)
    frames = made.pairs(seeded(2))
    gray = torch.full((2, 32, 32, 3), 0.25), torch.full((2, 32, 32), 0.5)
    made.head.picture = lambda *_: gray  # type: ignore[method-assign]
    loss = made(seeded(2))
    batch = made._batch(frames, torch.zeros(2, 3))
    wanted = squared(0.25 + 0.5 * batch.behind - batch.target).mean()
    assert float(loss.logged["pixel"]) == pytest.approx(float(wanted), rel=1e-5)


def preset_of(**changes: Any) -> Preset:
    return find_preset("headnerf-tiny", {name: str(value) for name, value in changes.items()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sync_weight", -1), ("swap_share", 2), ("perceptual_blocks", 5), ("motion_codes", 0),
        ("relight_share", 1.5), ("extractor_steps", 0), ("perceptual_side", 4), ("torso", "field"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        preset_of(**{name: value})
