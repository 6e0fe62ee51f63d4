"""What every command of the command line shares: its base class and its usual flags."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from tyro.conf import arg

from nldf_engine.base.errors import NldfError

if TYPE_CHECKING:
    from nldf_engine.avatar.provenance import Credentials
    from nldf_engine.engine.parts import Part

Json = Annotated[Path | None, arg(name="json", metavar="FILE", help_behavior_hint="")]
Device = Annotated[str, arg(metavar="auto|cpu|cuda")]
Precision = Annotated[
    Literal["auto", "fp32", "int16", "int8", "fp16"],
    arg(
        metavar="auto|fp32|int16|int8|fp16",
        help="of the networks: fp16 is for GPUs, int8 and int16 for CPUs; auto, or what NLDF_PRECISION says, "
        "takes the fastest in which the avatar's pictures stay the same (int8 at over 53 dB to fp32), else "
        "fp32",
    ),
]

SignFile = Annotated[Path | None, arg(metavar="FILE.pem", help_behavior_hint="")]

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


class UsageError(NldfError):
    """The flags do not go together: the command line exits with 2, as for an unknown flag."""


class Divided(Protocol):
    """A command whose work several processes can share, a stretch each."""

    def parts(self, folder: Path, seconds: float) -> int:
        """Into how many stretches of so many seconds it is divided; 1 where it is too short.

        Args:
            folder: that its paths are relative to.
            seconds: the length of a stretch.
        """
        ...

    def run_part(self, part: Part, path: Path) -> int:
        """Does a stretch of the work, into a file of its own; returns the exit code."""
        ...

    def join(self, paths: Sequence[Path]) -> int:
        """As `run`, of stretches that `run_part` wrote."""
        ...


@dataclass(frozen=True)
class Command(ABC):
    """A command: its fields are its flags, its docstring the help, `run` does the work.

    Heavy libraries (torch included) are imported inside `run`, so that `--help` answers at once.
    """

    examples: ClassVar[tuple[str, ...]] = ()
    """Shown at the end of `--help`, as one would type them."""

    when_stopped: ClassVar[str] = "nothing was lost or half-written: run the same command again"
    """What Ctrl-C left behind and how to continue; ends the line that is printed then."""

    reads: ClassVar[tuple[str, ...]] = ()
    """Fields that name files and folders that it reads."""

    writes: ClassVar[tuple[str, ...]] = ()
    """Fields that name what it writes, whole: what was there is replaced."""

    fills: ClassVar[tuple[str, ...]] = ()
    """Fields that name folders it writes into, beside what is there."""

    batched: ClassVar[bool] = False
    """Whether `nldf batch` may run it, as one job of many."""

    continues: ClassVar[tuple[str, ...]] = ()
    """Flags under which it continues an earlier attempt, where there is one."""

    @classmethod
    def more_help(cls, arguments: Sequence[str]) -> str:
        """What `--help` says beside flags and examples, for these arguments; by default nothing."""
        return ""

    def check_paths(self) -> None:
        """Checks, before any work, that no output takes the place of an input or of another output.

        Raises:
            UsageError: one does.
            FileProblem: the `--json` file can't be written.
        """
        inputs, outputs, filled = self.inputs(), self._paths(self.writes), self._paths(self.fills)
        from nldf_engine.base.files import check_writable, overlap

        for out in outputs:
            for given in inputs:
                if given.exists() and overlap(out, given):
                    raise UsageError(f"the output {out} overlaps with {given}, which is read from")
        figures: Path | None = getattr(self, "json", None)
        if figures is None:
            return
        for taken in inputs + outputs + filled:
            if (taken in outputs or taken in filled or taken.exists()) and overlap(figures, taken):
                raise UsageError(f"--json {figures} overlaps with {taken}; name a file apart from it")
        check_writable(figures)

    def inputs(self) -> list[Path]:
        """What it reads; what stands for something else than a path ("still") among it."""
        return self._paths(self.reads)

    def named_files(self) -> list[Path]:
        """What it reads that can be nothing but a path."""
        given = [getattr(self, name) for name in self.reads]
        items = [item for one in given for item in (one if isinstance(one, tuple) else [one])]
        return [item for item in items if isinstance(item, Path)]

    def outputs(self) -> list[Path]:
        """What it writes, whole or into it, the `--json` file included."""
        return self._paths((*self.writes, *self.fills, *(("json",) * hasattr(self, "json"))))

    def check_ready(self) -> None:  # noqa: B027 - most commands have nothing to check beforehand
        """Checks what can be checked before any long work: `run` does it first, a batch for all its jobs.

        Raises:
            UsageError, FileProblem: it can't be run like this.
        """

    @property
    def divided(self) -> Divided | None:
        """Itself, where its work can be divided."""
        return None

    def owning(self) -> contextlib.AbstractContextManager[None]:
        """Inside of it no other process writes what this command writes.

        Raises:
            FileProblem: on entering, where one does; the message says which.
        """
        from nldf_engine.base.lock import owned

        return owned(*self._paths(self.writes), *self._paths(self.fills))

    def _paths(self, names: tuple[str, ...]) -> list[Path]:
        given = [getattr(self, name) for name in names]
        return [
            Path(path) for item in given for path in (item if isinstance(item, tuple) else [item]) if path
        ]

    @abstractmethod
    def run(self) -> int:
        """Does the work and prints the result on stdout; returns the exit code, 0 for success."""


def output(metavar: str, required: bool = True) -> Any:
    """The flag `-o`, long form `--output`, that says where the result goes."""
    hint = None if required else ""
    return arg(name="output", aliases=["-o"], metavar=metavar, help_behavior_hint=hint)


def value(metavar: str) -> Any:
    """Names a flag's or a position's value in the help."""
    return arg(metavar=metavar)


def optional(metavar: str) -> Any:
    """As `value`, for a flag whose own text says what happens without it: no "(default: None)"."""
    return arg(metavar=metavar, help_behavior_hint="")


def positive(**flags: float | None) -> None:
    """Checks that each flag given (not None) is above zero.

    Raises:
        UsageError: one of them is not.
    """
    for name, number in flags.items():
        if number is not None and not number > 0:
            raise UsageError(f"--{name.replace('_', '-')} must be above 0; it is {number}")


@contextlib.contextmanager
def checking_flags() -> Iterator[None]:
    """Turns a value that a config refuses inside the block into a usage error."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UsageError(re.sub(r"^[A-Za-z]*Config[:.] ?", "", str(error))) from error


@contextlib.contextmanager
def warning_lines(label: str) -> Iterator[None]:
    """Warnings of the package inside the block become one line each on stderr."""
    import sys
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for item in caught:
        print(f"{label}: warning: {item.message}", file=sys.stderr, flush=True)


def check_device(device: str) -> None:
    """Checks the spelling of `--device`; whether it exists is for the engine to say.

    Raises:
        UsageError: it is none of auto, cpu, cuda, cuda:N.
    """
    if not _DEVICE.fullmatch(device):
        raise UsageError(f"--device is auto, cpu, cuda or cuda:N; it is {device!r}")


def signing(provenance: bool, cert: Path | None, key: Path | None) -> Credentials | None:
    """The credentials that --sign-cert and --sign-key name; None where they are not given.

    Raises:
        UsageError: one without the other, or either of them with --no-provenance.
        FileProblem: they can't be used.
    """
    if cert is None and key is None:
        return None
    if not provenance:
        raise UsageError("--sign-cert and --sign-key do not go with --no-provenance")
    from nldf_engine.avatar.provenance import find_credentials

    with checking_flags():
        return find_credentials(cert, key)


def save_results(path: Path | None, figures: dict[str, Any]) -> None:
    """Writes the results of a command as JSON, to the path of `--json`, if there is one.

    Raises:
        FileProblem: the file can't be written.
    """
    if path is not None:
        from nldf_engine.base.files import write_json

        write_json(path, figures)
