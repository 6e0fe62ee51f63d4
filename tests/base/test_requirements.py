"""What does not fit is named before it fails as something else."""

from __future__ import annotations

import email
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from nldf_engine.apps.cli.main import describe
from nldf_engine.base.errors import UnmetRequirement
from nldf_engine.base.requirements import check_requirements, unmet

ABOUT = """\
Name: nldf_engine
Version: 1
Requires-Python: >=3.10,<3.15
Requires-Dist: torch>=2.4
Requires-Dist: numpy>=1.26
Requires-Dist: c2pa-python>=0.38; sys_platform == "darwin"
Requires-Dist: viser<2,>=1.1; extra == "view"
Requires-Dist: nldf_engine[view]; extra == "all"
"""
FITTING = {"torch": "2.13.0+cpu", "numpy": "1.26.4", "viser": "1.10"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions of the libraries that are there, to be changed."""
    there = dict(FITTING)

    def version(name: str) -> str:
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(metadata, "metadata", lambda name: email.message_from_string(ABOUT))
    monkeypatch.setattr(metadata, "version", version)
    return there


def test_what_fits_is_silent(installed: dict[str, str]) -> None:
    """Local builds, longer numbers and libraries of extras that are not there are no reason for complaint."""
    assert unmet() == [] and unmet(extras=True) == []
    del installed["viser"]
    assert unmet(extras=True) == []
    check_requirements()


@pytest.mark.parametrize(
    "name, version, said",
    [
        (
            "torch",
            "2.3.1+cu121",
            r"torch 2\.3\.1\+cu121 is installed, and nldf_engine needs >=2\.4\. .*'torch>=2\.4'",
        ),
        ("numpy", "1.24.4", r"numpy 1\.24\.4 is installed"),
        ("c2pa-python", "0.9", r"c2pa-python 0\.9 is installed"),
    ],
)
def test_what_does_not_fit_is_named(installed: dict[str, str], name: str, version: str, said: str) -> None:
    """With its version, the bounds, and the command; on the command line without the name of a class."""
    installed[name] = version
    with pytest.raises(UnmetRequirement, match=said) as caught:
        check_requirements()
    assert isinstance(caught.value, ImportError) and describe(caught.value) == str(caught.value)


def test_what_is_missing_is_named(installed: dict[str, str]) -> None:
    """A library that rendering needs, and that somebody uninstalled."""
    del installed["numpy"]
    assert [text.partition(".")[0] for text in unmet()] == ["numpy is not installed"]


def test_extras_are_looked_at_where_wanted(installed: dict[str, str]) -> None:
    """A viewer's library that is too new is no concern of rendering."""
    installed["viser"] = "2.0.1"
    assert unmet() == [] and "viser 2.0.1" in unmet(extras=True)[0]


def test_another_python_is_named(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package was copied to an interpreter that it is not made for."""
    monkeypatch.setattr(sys, "version_info", (3, 15, 1, "final", 0))
    assert unmet() == ["this is Python 3.15.1, and nldf_engine needs >=3.10,<3.15: use another interpreter"]


def test_importing_the_engine_checks(tmp_path: Path) -> None:
    """Before torch is loaded: it may be what does not load."""
    for name, text in (("nldf_engine", ABOUT), ("torch", "Name: torch\nVersion: 1.13\n")):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(text, encoding="utf-8")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import nldf_engine\n"
        "try: from nldf_engine import Engine\n"
        "except ImportError as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("torch 1.13 is installed") and done.stdout.endswith("False\n")


def test_a_missing_library_of_the_system_is_named() -> None:
    """OpenCV's wheel without libGL: the package to install, and the wheel that does without."""
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    said = describe(ImportError(text, name="cv2"))
    assert "libGL.so.1 is missing" in said and "libgl1" in said and "opencv-python-headless" in said
    assert "libgomp1" in describe(ImportError(text.replace("GL", "gomp"), name="nldf_engine._C"))
    assert describe(ImportError(text.replace("GL", "foo"))).endswith("your system that has libfoo.so.1")
