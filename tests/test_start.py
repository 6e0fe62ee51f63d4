"""Starting is light: what a cold start imports is counted, not timed, so that any machine says the same."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from importlib.metadata import version
from pathlib import Path

import pytest

from nldf_engine.base.assets import ASSETS

ROOT = Path(__file__).resolve().parents[1]
AVATAR = ASSETS / "avatar"
# What rendering does without, so that it needn't be installed.
LEFT_OUT = {
    *("cv2", "scipy", "librosa", "matplotlib", "jinja2", "skimage", "transformers", "tensorboard", "PIL"),
    *("aiohttp", "aiortc", "viser", "pandas", "sklearn", "numba", "pytest", "rich", "sympy"),
}
# At most so many modules of ours, and of others beside torch, numpy and the standard library.
MOST = {"import": (4, 0), "version": (12, 0), "help": (16, 80), "engine": (155, 20), "render": (209, 220)}


def modules(what: str, code: str, *arguments: str) -> tuple[set[str], set[str], set[str]]:
    """What a fresh process has imported: modules of the package, of others, and all.

    Those of torch, numpy and the standard library count as no others: they differ from version to version.
    """
    heavy = "import torch, numpy\n" if what in ("engine", "render") else ""
    script = (
        f"import json, sys\n{heavy}before = set(sys.modules)\n{code}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )
    names = set(json.loads(done.stderr.splitlines()[-1]))
    ours = {name for name in names if name.split(".")[0] == "nldf_engine"}
    known = {"torch", "numpy", *sys.stdlib_module_names}
    return ours, {name for name in names - ours if name.split(".")[0] not in known}, names


COMMAND = "from nldf_engine.apps.cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass"


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fifth of a second of silence."""
    path = tmp_path_factory.mktemp("sound") / "speech.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(bytes(6400))
    return path


@pytest.mark.parametrize("what", MOST)
def test_a_cold_start_imports_little(what: str, speech: Path, tmp_path: Path) -> None:
    """Importing the package, its Engine, the version, the help and a whole render each stay within a number.

    None loads a library that the core does not ask for, and what is answered without torch loads no torch.
    """
    code, arguments = {
        "import": ("import nldf_engine", []),
        "version": (COMMAND, ["--version"]),
        "help": (COMMAND, ["render", "--help"]),
        "engine": ("from nldf_engine import Engine", []),
        "render": (
            COMMAND,
            ["render", str(AVATAR), str(speech), "-o", str(tmp_path / "out.mp4"), "--size", "64"],
        ),
    }[what]
    ours, others, loaded = modules(what, code, *arguments)
    if version("torch").startswith("2.4"):  # it needs these itself
        others = {name for name in others if name.split(".")[0] not in ("sympy", "mpmath")}
    tops = {name.split(".")[0] for name in others}
    assert not LEFT_OUT & tops, f"{what} imports {sorted(LEFT_OUT & tops)}"
    most_ours, most_others = MOST[what]
    assert len(ours) <= most_ours and len(others) <= most_others, (len(ours), len(others), sorted(tops))
    if what in ("import", "version", "help"):
        assert "torch" not in loaded and "numpy" not in loaded
    if what == "render":
        assert (tmp_path / "out.mp4").stat().st_size > 0
