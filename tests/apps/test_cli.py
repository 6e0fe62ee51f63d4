"""The command line: exit codes, one line for each failure, help, Ctrl-C."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nldf_engine.apps.cli import main as cli
from nldf_engine.apps.cli.command import Command
from nldf_engine.apps.cli.libraries import LIBRARIES
from nldf_engine.base.errors import FileProblem, MissingBackend

# The flags are a promise to scripts: a change here is a change for everybody who wrote one.
SIGNING = {"--no-provenance", "--sign-cert", "--sign-key"}
FLAGS = {
    "prepare": {"--output", "--size", "--audio-frontend", "--sync", "--minutes", "--no-refine", "--json"},
    "refine": {"--size", "--rounds", "--steps", "--seed", "--json"},
    "synthetic": {"--output", "--seconds", "--size", "--seed", "--proportions", "--json"},
    "validate": {"--json"},
    "train": {
        *("--output", "--teacher", "--size", "--steps", "--minutes", "--device", "--resume", "--seed"),
        *("--set", "--head", "--consent", "--audio-frontend", "--look-ahead", "--weights", "--base"),
        *("--seconds", "--no-graphs", "--matmul", "--json"),
    },
    "render": {
        *("--output", "--poses", "--background", "--size", "--device", "--json", *SIGNING),
        *("--yaw", "--pitch", "--roll", "--shift", "--curves", "--smooth", "--center-poses", "--pose-limit"),
        *("--blink", "--eyes", "--blink-seed", "--brows", "--gaze", "--lively"),
        *("--mouth", "--sliders", "--gate"),
        *("--edges", "--expression", "--identity", "--albedo", "--light", "--landmarks", "--landmark-limit"),
        *("--lids", "--mouth-gain", "--jaw", "--lip-corners", "--mouth-width", "--brow-height"),
        *("--into", "--region", "--precision", "--preset", "--crf"),
    },
    "serve": {
        *("--demo", "--host", "--port", "--token-file", "--origin", "--tls-cert", "--tls-key", "--workers"),
        *("--sessions", "--queue", "--idle", "--silent", "--rate", "--largest", "--udp-ports", "--ice"),
        *("--turn-user", "--relay", "--device", "--precision", "--json", "--into", "--poses", "--region"),
    },
    "batch": {
        *("--workers", "--threads", "--retries", "--stretch", "--ray", "--root", "--check", "--json"),
    },
    "landmarks": {"--output", "--device", "--json"},
    "view": {"--data", "--host", "--port", "--device"},
    "sheet": {"--output", "--pose-limit", "--size", "--device", "--precision", "--json"},
    "verify": {"--trust", "--json"},
    "evaluate": {
        *("--rendered", "--reference", "--controls", "--split", "--frames", "--every", "--torso"),
        *("--foreign-audio", "--phones", "--weights", "--output", "--size", "--fps", "--skip"),
        *("--openface-rendered", "--openface-reference", "--workers", "--fresh", "--device", "--json"),
        "--precision",
    },
    "export": {"--layout", "--output", "--json"},
    "import": {"--output", "--size", "--json"},
    "bench": {"--quick", "--full", "--report", "--json"},
    "doctor": {"--json"},
    "demo": {
        "--output",
        "--text",
        "--seconds",
        "--size",
        "--seed",
        "--device",
        "--json",
        *SIGNING,
        "--precision",
    },
}


def command_class(name: str) -> type[Command]:
    kind = getattr(importlib.import_module(f"nldf_engine.apps.cli.commands.{name}"), name.capitalize())
    assert issubclass(kind, Command)
    return kind


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`nldf COMMAND --help` shows the promised flags, the defaults and an example, and exits with 0."""
    with pytest.raises(SystemExit) as exit_:
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    kind = command_class(name)
    flags = re.findall(r"--[a-z][a-z-]*", text.split(kind.examples[-1])[-1])
    assert set(flags) == FLAGS[name] | {"--help"}
    assert kind.examples and all(f"    {example}\n" in text for example in kind.examples)
    shown = [f for f in dataclasses.fields(kind) if f.default not in (dataclasses.MISSING, None, ())]
    assert all(f"default: {item.default}" in " ".join(text.split()) for item in shown)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_examples_parse(name: str) -> None:
    """Every example that the help shows is accepted by the very command."""
    import shlex

    for example in command_class(name).examples:
        words = shlex.split(example)
        assert words[:2] == ["nldf", name]
        assert isinstance(cli.parse(command_class(name), name, words[2:]), Command)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_summaries_agree(name: str) -> None:
    """The overview says of a command what its own docstring says."""
    assert (command_class(name).__doc__ or "").splitlines()[0] == cli.COMMANDS[name]


def test_overview_is_quick_and_imports_nothing_heavy() -> None:
    """`nldf --help` lists every command within a second, without importing torch, numpy or tyro."""
    script = (
        "import sys, time; start = time.perf_counter()\n"
        "from nldf_engine.apps.cli.main import main; code = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'tyro', 'cv2', 'av'} & set(sys.modules)\n"
        "print(code, time.perf_counter() - start < 1, sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "0 True []"
    assert all(any(line.split()[:1] == [name] for line in lines) for name in cli.COMMANDS)


def test_help_of_the_commands_imports_no_torch() -> None:
    """The help of every command answers without importing torch."""
    script = (
        "import contextlib, io, sys\n"
        "from nldf_engine.apps.cli import main as cli\n"
        "for name in cli.COMMANDS:\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        cli.main([name, '--help'])\n"
        "    assert 'torch' not in sys.modules, name\n"
        "print(len(cli.COMMANDS))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(len(cli.COMMANDS)), done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "nldf-tiny", "d", "-o", "a", "--steps", "5", "--minutes", "5"], "exclude each other"),
        (["train", "nldf-tiny", "d", "-o", "a", "--set", "pool"], "KEY=VALUE"),
        (["train", "nldf-tiny", "d", "-o", "a", "--set", "rays=1", "--set", "rays=2"], "twice"),
        (
            ["train", "no-such", "d", "-o", "a"],
            "there is no preset 'no-such'; there are adnerf, ",
        ),
        (["train", "nldf-tiny", "d", "-o", "a", "--device", "tpu"], "--device is auto, cpu, cuda"),
        (["render", "a", "b.wav", "-o", "c.mp4", "--size", "0"], "--size must be above 0"),
        (["render", "a", "b.wav", "-o", "c.mp4", "--sign-cert", "x.pem"], "belong together"),
        (["demo", "--no-provenance", "--sign-cert", "x.pem", "--sign-key", "k"], "do not go with"),
        (["train", "nldf-tiny", "d", "-o", "a", "--consent", "Ada"], 'expected "NAME, YYYY-MM-DD'),
        (["synthetic", "-o", "d", "--seconds", "nan"], "--seconds must be above 0"),
        (["synthetic", "-o", "d", "--proportions", "1,2"], "--proportions is W,L,J, three factors"),
        (["bench", "no-such-suite"], "there is no suite"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_errors_exit_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags that do not go together are refused with 2 and one line that says why."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["render", "avatar-alone"], "Missing from nldf render: AUDIO; -o OUT.mp4, --output OUT.mp4"),
        (["prepare", "video.mp4"], "Missing from nldf prepare: -o DATASET, --output DATASET"),
        (["train", "a", "b", "-o", "c", "--steps", "many"], "Error parsing --steps:"),
        (["train", "a", "b", "-o", "c", "--seed", "1.5"], "'1.5'"),
        (["demo", "--no-such-flag"], "--no-such-flag"),
        (["evaluate", "a", "b", "--split", "everything"], "--split"),
        (["evaluate", "a", "b", "--size", "4"], "size: expected at least 16"),
        (["evaluate", "a", "b", "--frames", "1"], "needs at least 2"),
        (["render", "a", "b.wav", "-o", "c.mp4", "--size", "99999"], "size: expected a width of 1 to 4096"),
        (["render", "a", "b.wav", "-o", ""], "an argument is empty"),
        (["render", "a", "", "-o", "c.mp4"], "an argument is empty"),
        (["render", "a", "b.wav", "--output="], "--output is empty"),
        (["train", "nldf-tiny", "d", "-o", "a", "--seed", "-1"], "seed: expected 0 to"),
        (["train", "nldf-tiny", "d", "-o", "a", "--seed", "9" * 30], "seed: expected 0 to"),
        (["train", "nldf-tiny", "d", "-o", "a", "--size", "4"], "size: expected 16 to"),
        (["train", "nldf-tiny", "d", "-o", "a", "--minutes", "inf"], "minutes: expected"),
        (["train", "nldf-tiny", "d", "-o", "a", "--set", "rays=1e12"], "--set rays: expected 1 to 1048576"),
        (["train", "nldf-tiny", "d", "-o", "a", "--set", "rays=1000000000000"], "--set rays: expected 1 to"),
        (["train", "nldf-tiny", "d", "-o", "a", "--set", "frames=100000"], "--set frames: expected 1 to"),
        (["synthetic", "-o", "d", "--seed", "-1"], "seed: expected 0 to"),
        (["synthetic", "-o", "d", "--size", "33"], "size must be even"),
        (["demo", "-o", "d.mp4", "--seconds", "1e9"], "seconds must be in"),
        (
            ["prepare", "v.mp4", "-o", "d", "--audio-frontend", "deepspeech"],
            "one of whisper, mel, wav2vec2, hubert",
        ),
        (["prepare", "v.mp4", "-o", "d", "--size", "127"], "size must be even"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_wrong_flags_exit_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Missing, unknown, unreadable, empty and absurd values: 2, one line that points to the help, no file."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert says in captured.err and f"nldf {arguments[0]} --help" in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["render", "a", "b.wav", "-o", "out.mp4", "--json", "./out.mp4"],
            "--json out.mp4 overlaps with out.mp4",
        ),
        (["render", "a", "b.wav", "-o", "out.mp4", "--json", "b.wav"], "--json b.wav overlaps"),
        (
            ["render", "a", "b.wav", "-o", "out.mp4", "--json", "a/avatar.json"],
            "--json a/avatar.json overlaps",
        ),
        (["render", "a", "b.wav", "-o", "b.wav"], "the output b.wav overlaps"),
        (["render", "a", "b.wav", "-o", "a/out.mp4"], "the output a/out.mp4 overlaps"),
        (["prepare", "b.wav", "-o", "d", "--json", "d/report.json"], "--json d/report.json overlaps"),
        (["prepare", "a/v.mp4", "-o", "a"], "the output a overlaps with a/v.mp4"),
        (["train", "nldf-tiny", "a", "-o", "a/me"], "the output a/me overlaps with a"),
        (["train", "nldf-tiny", "d", "-o", "a", "--teacher", "a"], "the output a overlaps with a"),
        (["evaluate", "a", "d", "-o", "r", "--json", "r/metrics.json"], "--json r/metrics.json overlaps"),
        (["validate", "a", "--json", "a/dataset.json"], "--json a/dataset.json overlaps"),
        (["synthetic", "-o", "d.mp4", "--json", "d.mp4"], "--json d.mp4 overlaps"),
        (["demo", "-o", "d.mp4", "--json", "d.mp4"], "--json d.mp4 overlaps"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_outputs_do_not_take_the_place_of_others(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """An output or --json file that is an input, another output, or in one of them is refused at once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    for name in ("b.wav", "a/avatar.json", "a/v.mp4"):
        (tmp_path / name).write_text("as it was")
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1
    assert {p.name for p in tmp_path.rglob("*")} == {"a", "b.wav", "avatar.json", "v.mp4"}
    assert (tmp_path / "b.wav").read_text() == "as it was"


@pytest.mark.parametrize("name", [name for name in FLAGS if "--json" in FLAGS[name] and name != "bench"])
def test_an_unwritable_json_is_refused_before_the_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--json that names a folder, or lies below a file, ends every command with 1 before it does anything."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    words = next(iter(command_class(name).examples)).split()[1:]
    for wrong, says in (("folder", "it is a folder"), ("file/x.json", "is no folder")):
        assert cli.main([*words, "--json", wrong]) == 1
        said = capsys.readouterr().err
        assert says in said and "To fix it" in said and said.count("\n") == 1
    assert {p.name for p in tmp_path.rglob("*")} == {"folder", "file"}


def test_no_command_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    """`nldf` alone prints the overview on stderr and exits with 2."""
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "commands:" in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "missing.mp4", "-o", "data"],
        ["validate", "missing"],
        ["verify", "missing.mp4"],
        ["render", "missing", "missing.wav", "-o", "out.mp4"],
        ["evaluate", "missing", "missing"],
        ["train", "nldf-tiny", "missing", "-o", "avatar"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_failures_exit_1_with_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there ends a command with 1 and one line that names it; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    said = captured.err
    assert said.count("\n") == 1 and "missing" in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`NLDF_DEBUG=1` shows where a failure came from; the exit code stays 1."""
    monkeypatch.setenv("NLDF_DEBUG", "1")
    assert cli.main(["render", "missing", "a.wav", "-o", "o.mp4"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "render.py" in said


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            FileProblem("a.wav", "it is empty", "record it again"),
            "a.wav: it is empty. To fix it: record it again.",
        ),
        (
            MissingBackend("there is no GPU", "use --device cpu"),
            "there is no GPU. To fix it: use --device cpu.",
        ),
        (PermissionError(13, "Permission denied", "out.mp4"), "out.mp4: Permission denied"),
        (
            ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard"),
            "-m pip install",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory. To fix",
        ),
        (RuntimeError("CUDA out of memory. Tried to"), "not enough memory. To fix"),
        (MemoryError(), "not enough memory. To fix"),
        (RuntimeError("odd"), "RuntimeError: odd (NLDF_DEBUG=1 shows where)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_in_words(error: Exception, says: str) -> None:
    """Every kind of failure is told as what happened and what to do."""
    assert says in cli.describe(error)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX systems")
def test_ctrl_c_exits_130_and_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle of work exits with 130, says in one line that nothing was lost, leaves no file."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nldf_engine", "synthetic", "-o", str(tmp_path / "long"), "--seconds", "120"],
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, f"it ended by itself: {process.communicate()[1]}"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("nldf synthetic: stopped; nothing was lost")
    assert "Traceback" not in said and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX systems")
def test_ctrl_c_while_a_module_executes_text_exits_130_too(tmp_path: Path) -> None:
    """Where it came inside `exec` CPython would end by the signal itself; all that an exit does is done."""
    script = (
        "import atexit, os, signal, sys, threading, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from nldf_engine.apps.cli import main as cli\n"
        "def work(arguments=None):\n"
        "    try:\n"
        "        exec('import os, signal; os.kill(os.getpid(), signal.SIGINT); [0 for _ in range(9)]')\n"
        "    except KeyboardInterrupt:\n"
        "        return cli.INTERRUPTED\n"
        "cli.main = work\n"
        "atexit.register(print, 'cleaned up')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread done'))).start()\n"
        "LEAVE\n"
    )
    ends = {}
    for leave in ("cli.entry()", "sys.exit(cli.main())"):
        (tmp_path / "interrupted.py").write_text(script.replace("LEAVE", leave), encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        command = [sys.executable, "-m", "interrupted"]
        ends[leave] = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert ends["sys.exit(cli.main())"].returncode == -signal.SIGINT, "the trap is not sprung any more"
    done = ends["cli.entry()"]
    assert done.returncode == 130 and done.stdout.split("\n")[:2] == ["thread done", "cleaned up"], done


def test_a_process_of_ours_collects_rarely() -> None:
    """The command's process looks for garbage less often than Python does by itself."""
    script = (
        "import gc\n"
        "from nldf_engine.apps.cli import main as cli\n"
        "cli.main = lambda: print(*gc.get_threshold()) or 0\n"
        "cli.entry()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[0]) > 10_000 > gc.get_threshold()[0]


def test_doctor_json_is_whole(tmp_path: Path) -> None:
    """`nldf doctor --json` writes valid JSON whose verdict is the exit code, with a command for each lack."""
    command = [sys.executable, "-m", "nldf_engine", "doctor", "--json", str(tmp_path / "doctor.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    findings = json.loads((tmp_path / "doctor.json").read_text(encoding="utf-8"))
    assert done.returncode == (0 if findings["rendering"]["works"] else 1), done.stderr
    assert findings["rendering"]["works"], findings["rendering"]["detail"]
    assert findings["versions"]["torch"] and findings["versions"]["numpy"]
    assert findings["backends"]["cpu"] is True
    assert all(findings["codecs"].values()), findings["codecs"]
    lacking = {name for name, state in findings["libraries"].items() if not state["works"]}
    remedied = {
        item.module for item in LIBRARIES if item.distribution in [m["missing"] for m in findings["mends"]]
    }
    assert lacking == remedied
    assert all("pip install" in item["command"] for item in findings["mends"])
    assert all(name in done.stdout for name in ("torch", "kernels", "rendering works"))


def test_sigterm_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Who stops a command by SIGTERM or SIGHUP is told the same as by Ctrl-C; other codes are left alone."""
    for code, said in (
        (143, "nldf train: stopped; nothing is lost\n"),
        (129, "nldf train: stopped; nothing is lost\n"),
        (5, ""),
    ):

        def work(code: int = code) -> int:
            raise SystemExit(code)

        with pytest.raises(SystemExit) as caught:
            cli.guarded("nldf train", work, lambda: "nothing is lost")
        assert caught.value.code == code and capsys.readouterr().err == said
