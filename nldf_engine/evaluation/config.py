"""How an evaluation is done, and what its metrics mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nldf_engine.evaluation.metrics.lip_closure import CLOSED_GAP
from nldf_engine.evaluation.metrics.psnr import PSNR_CAP
from nldf_engine.evaluation.metrics.visemes import AROUND

SMALLEST_WIDTH = 16


@dataclass(frozen=True)
class EvaluateConfig:
    """How to evaluate.

    Args:
        split: "heldout" (the last fifth, which no training learns from), "validation", "fit", "train", "all".
        frames: only the first that many valid frames of the split; None takes them all. They are
            consecutive, since the lips are scored over time.
        size: width to render and compare at, in pixels; None takes the avatar's.
        torso: "tracked": the torso follows its tracked motion in the scored frames, where the dataset is
            the avatar's own and holds it; "predicted": its motion is predicted from the poses.
        pictures: write the contact sheet, the curves, the side-by-side video and the page, too.
        every: score only every so many frames.
        weights: folder with public weights (LPIPS, FID, SyncNet); torch's cache is searched as well, and
            AlexNet's LPIPS comes with the package.
        phones: a table of what is said when (see `phones.read_phones`), for the metrics by viseme.
        foreign_audio: somebody else's speech, a further control for the lips.
        workers: threads that score; None takes the machine's cores, at most 8.
        fresh: measure again, even where the report at hand was made from the same inputs.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: as for `Engine.load`.
        backend: "native" or "reference".

    Raises:
        ValueError: fewer than 2 frames, a size below 16, or a number below 1.
    """

    split: str = "heldout"
    frames: int | None = None
    size: int | None = None
    torso: str = "tracked"
    pictures: bool = True
    every: int = 1
    weights: Path | None = None
    foreign_audio: Path | None = None
    phones: Path | None = None
    workers: int | None = None
    fresh: bool = False
    device: str = "auto"
    precision: str = "auto"
    backend: str = "native"

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 2:
            raise ValueError(f"frames: an evaluation needs at least 2, got {self.frames}")
        if self.torso not in ("tracked", "predicted"):
            raise ValueError(f"torso: expected 'tracked' or 'predicted', got {self.torso!r}")
        if self.size is not None and self.size < SMALLEST_WIDTH:
            raise ValueError(f"size: expected at least {SMALLEST_WIDTH} pixels, got {self.size}")
        for name in ("every", "workers"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name}: expected at least 1, got {number}")


DEFINITIONS = {
    "frames": "frames scored: the valid ones of the stretch first_frame..last_frame, every `every`-th",
    "psnr": f"dB, mean over the frames of each frame's PSNR on uint8 colours; equal frames: {PSNR_CAP:g}",
    "psnr_foreground": "the same over the pixels whose label is not background",
    "psnr_mouth": "the same over the box around the real lips, widened by 2 % and 3 % of the frame",
    "psnr_head": "the same over the pixels labelled head; without labels over the face's hull, grown",
    "psnr_neck": "the same over the band about the borders of head, neck and torso, 3 % of the frame's width "
    "to either side; without labels, below the jaw",
    "ssim": "Gaussian window 11, sigma 1.5, K1 0.01, K2 0.03, data range 1, mean over colours, pixels and "
    "frames; ssim_foreground, _head, _mouth, _neck over the same regions",
    "lpips": "LPIPS 0.1, AlexNet, mean over the frames; lpips_vgg: VGG16",
    "fid": "Fréchet distance of Inception's 2048 features between the real and the rendered frames; of a "
    "few hundred frames it is biased upwards: compare equal numbers of frames only",
    "lmd": "mean distance of the 40 lip landmarks, pixels where the frame's longer side is 512",
    "lmd_centred": "the same after each mouth's centre was subtracted",
    "lmd_aligned": "the same after a similarity moved the rendered face's rigid points onto the real one's",
    "face_lmd": "as lmd over the 468 points of the face; face_lmd_aligned as lmd_aligned",
    "lip_correlation": "Pearson correlation over time of the inner lip gap over the outer eye distance",
    "lip_velocity_correlation": "the same of the lip points' velocities about the mouth's centre",
    "lip_amplitude_ratio": "standard deviation over time of the rendered lip gap over the real one's: 1 "
    "moves as much, below it mumbles",
    "lip_distribution": "1-Wasserstein distance of the rendered from the real lip gaps, whenever they occur, "
    "over the real ones' standard deviation: 0 opens as far and as often",
    "lip_closed_auc": "area under the ROC curve of the rendered lip gap as a detector of the frames whose "
    f"real lips are closed (gap below {CLOSED_GAP:g} outer eye distances): 0.5 is chance; lip_closed_f1: F1 "
    "score where the rendered gap is held against the same threshold; lip_closed_real: share of such frames",
    "lip_closures_bilabial": f"share of p, b and m at which the lips meet, within {1000 * AROUND:.0f} ms of "
    "the sound; lip_closures_bilabial_real: of the real lips; needs phone times",
    "visemes": "by class of sounds: frames, and the mean absolute error of the lip gap over them, in outer "
    "eye distances; of bilabials also how many, and the shares that close; needs phone times",
    "lip_lag_ms": "shift of the rendered lip gap that correlates best with the real one; positive: late",
    "lip_peak": "the correlation at that shift; lip_chance: what 95 % of such peaks stay "
    "below when the rendered lips run backwards in time, at any shift",
    "au_lower": "mean absolute error of distances that action units of the lower face change, in outer eye "
    "distances (au_upper: brows and lids; action_units: each); no FACS coder",
    "au_openface": "mean absolute error of OpenFace's intensities (0..5) over the lower face's units",
    "sync_retrieval": "share of windows of 0.8 s whose own sound the package's judge picks among itself and "
    "10 others of the clip, at least 0.4 s away: 0.09 is chance; sync_retrieval_real: of the real lips",
    "sync_offset_frames": "shift of the sound, in frames of 40 ms, at which the judge finds lips and sound "
    "most similar, positive: the lips come late; sync_offset_margin: by how much the mean similarity there "
    "is above its median over shifts of up to 15 frames: near 0 the offset says nothing; both _real as well",
    "sync_offset": "SyncNet's offset in frames of 40 ms, positive: the lips come late; sync_confidence, "
    "sync_distance: its confidence and least distance; sync_*_real: those of the real frames",
    "jitter": "RMS second difference over time of the rigid landmarks about where the poses put them, pixels "
    "at 512; jitter_ratio: over the real frames'; jitter_mouth: of the lips about their centre",
    "flicker": "RMS second difference over time of what is background in every frame, of 255; "
    "flicker_real: of the real frames",
    "*_shuffled": "the same frames and poses, with the audio of the frame shuffled_shift frames on, going "
    "round within the stretch: lips that follow the audio score worse here",
    "*_foreign": "the same with somebody else's speech",
    "torso": "what moved it: the motion tracked in the scored frames, as their poses are, or a prediction "
    "from the poses",
    "upper": "what moved brows, lids and gaze, where the avatar is conditioned on them: what was tracked "
    "in the scored frames of the speaker it was trained on, or the avatar's own track",
    "seconds_per_frame": "rendering alone, while nothing is scored: mean over the first frames, at most "
    "100, after one to warm up",
}  # fmt: skip
