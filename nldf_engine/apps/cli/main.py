"""The command `nldf`: finds the command, hands it its flags, and turns what happens into an exit code.

Exit codes: 0 success; 1 any failure, with one line on stderr; 2 a usage error; 130 after Ctrl-C, 143 and 129
after SIGTERM and SIGHUP;
`nldf verify` has a few of its own.
`NLDF_DEBUG=1` shows the traceback of a failure.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import importlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from nldf_engine.base.errors import NldfError
from nldf_engine.base.memory import collect_rarely, keep_freed_memory
from nldf_engine.base.requirements import check_requirements
from nldf_engine.base.signals import TERMINATING, handling, open_streams, send_nowhere
from nldf_engine.base.waiting import wait_briefly

if TYPE_CHECKING:
    from nldf_engine.apps.cli.command import Command

C = TypeVar("C", bound="Command")

COMMANDS = {
    "prepare": "Turn a video of one person talking into a dataset.",
    "refine": "Move a dataset's poses to where its pictures say they are, as prepare does.",
    "synthetic": "Write a synthetic speaker: a dataset or a video with known ground truth.",
    "validate": "Say what is wrong with a dataset, foreign folder or avatar, and how to fix it.",
    "train": "Train an avatar on a dataset.",
    "render": "Render an avatar speaking an audio file, as a video with sound.",
    "serve": "Serve avatars live: sound in, pictures and sound out.",
    "batch": "Render, evaluate or train many, on this machine or on a Ray cluster.",
    "landmarks": "Write the landmarks of an avatar's face as it speaks an audio file, to edit them.",
    "view": "Look at an avatar or a dataset in the browser.",
    "sheet": "Draw a contact sheet of an avatar: turned heads, blinks, mouths and backgrounds.",
    "evaluate": "Measure avatars, or any video, against real frames.",
    "verify": "Say where a video comes from, and whether it was changed since.",
    "export": "Write a dataset as a folder of AD-NeRF or RAD-NeRF.",
    "import": "Make an avatar of networks that AD-NeRF or DFRF trained.",
    "bench": "Time the kernels and models on this machine.",
    "doctor": "Say what this installation can do, what is missing, and how to fix it.",
    "demo": "Render the bundled avatar speaking a fresh sentence.",
}
INTERRUPTED = 128 + signal.SIGINT
STOPPED = tuple(128 + number for number in TERMINATING)
# As PyTorch words it, on the CPU and on a GPU: there is no class for the first.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory")


# As the loader words it where a wheel's library wants another one.
LACKS_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[.\d]*): cannot open")


def overview() -> str:
    """The text of `nldf --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"    {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: nldf COMMAND [OPTIONS]",
            "",
            "From a video of a person talking to an avatar that speaks any audio, in real time.",
            "",
            "commands:",
            *lines,
            "",
            "    nldf COMMAND --help   shows the command's options, defaults and examples",
            "    nldf --version        prints the version",
            "",
            "Examples:",
            "    nldf demo",
            "    nldf prepare speaker.mp4 -o data/speaker",
            "    nldf train nldf-fast data/speaker -o avatars/me",
            "    nldf render avatars/me speech.wav -o out.mp4",
        ]
    )


def entry() -> NoReturn:
    """The command `nldf`, as a process: runs it with the process' arguments and ends with its exit code."""
    try:
        collect_rarely()
        open_streams()
        code = main()
    except KeyboardInterrupt:  # before the command began, or while its failure was being reported
        _complain("nldf", "stopped; nothing was lost or half-written: run the same command again")
        code = INTERRUPTED
    if code == INTERRUPTED:
        _leave_interrupted()
    sys.exit(code)


def _leave_interrupted() -> NoReturn:
    """Ends with 130 after all that an exit does.

    Where Ctrl-C came while a module that was being imported ran `exec` on a text (a dataclass does), CPython
    remembers it though it was handled, and `sys.exit` would end in the signal itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `nldf` with these arguments (those of the process by default); returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from nldf_engine.base.version import __version__

        print(f"nldf_engine {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else "see: nldf --help"
        _complain("nldf", f"there is no command {name!r}; {hint}")
        return 2
    return _run(name, arguments[1:])


def _run(name: str, arguments: list[str]) -> int:
    from nldf_engine.apps.cli.command import Command

    stopped = Command.when_stopped

    def work() -> int:
        nonlocal stopped
        kind: type[Command] = getattr(
            importlib.import_module(f"nldf_engine.apps.cli.commands.{name}"), name.capitalize()
        )
        stopped = kind.when_stopped
        command = parse(kind, name, arguments)
        command.check_paths()
        check_requirements()
        with command.owning():
            return command.run()

    return guarded(f"nldf {name}", work, lambda: stopped)


def parse(kind: type[C], name: str, arguments: Sequence[str]) -> C:
    """The command `kind` with its flags set from `arguments`.

    Raises:
        UsageError: a flag is unknown, missing or empty, or its value of the wrong kind.
        SystemExit: code 0, after `--help` was printed.
    """
    import tyro

    from nldf_engine.apps.cli.command import UsageError

    for argument in arguments:
        flag, equals, text = argument.partition("=")
        if not argument.strip() or (flag.startswith("--") and equals and not text.strip()):
            # An empty path would be taken for the folder that one is in.
            raise UsageError(f"{flag.strip() or 'an argument'} is empty")
    examples = "\n".join(f"    {line}" for line in kind.examples)
    more = kind.more_help(arguments) if {"-h", "--help"} & set(arguments) else ""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                kind,
                prog=f"nldf {name}",
                description=f"{COMMANDS[name]}\n{_details(kind)}\nExamples:\n{examples}{more}",
                args=list(arguments),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as exit_:
        if not exit_.code:
            raise
        raise UsageError(_unboxed(said.getvalue())) from None


def _unboxed(text: str) -> str:
    """What tyro says in a box of several lines, as one line: without its title, details and pointer to help.

    The box is drawn of Unicode or of ASCII, as the terminal allows.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).translate(str.maketrans("│╭╮╰╯─", "      "))
    lines = ["" if set(line.strip()) == {"-"} else line for line in plain.splitlines()]
    body = lines[next((k for k, line in enumerate(lines) if line.strip()), 0) + 1 :]
    said, margin = "", None
    for line in body:
        depth = len(line) - len(line.lstrip())
        margin = depth if margin is None and line.strip() else margin
        if margin is None:
            continue
        if not line.strip():
            break
        if depth - margin <= 4:  # deeper is what the help says of a flag
            said += ("; " if depth > margin else " ") + line.strip()
    return said.strip().replace(":; ", ": ").removesuffix(".") or "the flags can't be read"


def _details(kind: type[Command]) -> str:
    """The docstring without its first line, which is in `COMMANDS`.

    tyro joins the lines of a paragraph and does not wrap it; it leaves indented lines alone.
    """
    import inspect
    import textwrap

    rest = (inspect.getdoc(kind) or "").partition("\n")[2].strip()
    return textwrap.fill(rest, 78, initial_indent="  ", subsequent_indent="  ") + "\n"


def guarded(label: str, work: Callable[[], int], stopped: Callable[[], str]) -> int:
    """Runs `work`; every way that it can end becomes an exit code and at most one line on stderr."""
    from nldf_engine.apps.cli.command import UsageError

    try:
        keep_freed_memory()
        wait_briefly()
        with handling(TERMINATING, _unwind):
            code = work()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _complain(label, f"stopped; {stopped()}")
        return INTERRUPTED
    except SystemExit as exit_:
        if exit_.code in STOPPED:
            _complain(label, f"stopped; {stopped()}")
        raise
    except BrokenPipeError:
        # Where `open_streams` was not called: keep the interpreter from complaining too.
        send_nowhere(sys.stdout.fileno())
        return 1
    except UsageError as error:
        _complain(label, f"{error}; see: {label} --help")
        return 2
    except Exception as error:
        if os.environ.get("NLDF_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        else:
            _complain(label, describe(error))
        return 1


def describe(error: Exception) -> str:
    """One line for a person about an error that ended a command."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        if error.name.startswith("nldf_engine"):
            return f"this installation is incomplete: {error}. To fix it: install the package again"
        from nldf_engine.apps.cli.libraries import remedy

        return f"the library {error.name} is not installed. To fix it: {remedy(error.name)}"
    if isinstance(error, ImportError) and (library := LACKS_LIBRARY.match(str(error))):
        from nldf_engine.apps.cli.libraries import system_remedy

        advice = system_remedy(library[1], error.name or "")
        return f"the system's library {library[1]} is missing. To fix it: {advice}"
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    ):
        return (
            "there is not enough memory. To fix it: reduce the work (a smaller --size, a shorter sound, "
            "fewer rays a step), or end other programs."
        )
    if isinstance(error, NldfError | ValueError | TypeError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error} (NLDF_DEBUG=1 shows where)"


def _complain(label: str, message: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(f"{label}: {' '.join(message.split())}", file=sys.stderr, flush=True)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    """Ends like an exit, so that temporary files go."""
    raise SystemExit(128 + number)
