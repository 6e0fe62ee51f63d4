"""`nldf verify`: where a video comes from, and whether it was changed since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional, UseAppendAction

from nldf_engine.apps.cli.command import Command, Json, save_results, value

if TYPE_CHECKING:
    from nldf_engine.avatar.provenance import Inspection

CODES = {"intact": 0, "tampered": 3, "none": 4, "foreign": 5}
SIGNER_REFUSED = 6
AUTHORITY = "give the PEM file of an authority's certificate"
LONGEST_LINE = 600


@dataclass(frozen=True)
class Verify(Command):
    """Say where a video comes from, and whether it was changed since.

    Reads the C2PA manifest that nldf render signs into its videos; the internet is not used.
    Exit codes: 0 made by nldf_engine and unchanged since it was signed; 3 changed since; 4 there is no
    manifest; 5 unchanged, but made by another program; 6 unchanged, but the signer's certificate is not
    valid, or comes from none of the authorities of --trust; 1 the file can't be read; 2 wrong usage.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf verify out.mp4",
        "nldf verify out.mp4 --json provenance.json",
        "nldf verify out.mp4 --trust company-authority.pem",
    )

    reads: ClassVar[tuple[str, ...]] = ("video", "trust")

    video: Annotated[Path, Positional, value("VIDEO")]
    """the file to read: .mp4 or .mov, or whatever else may hold a manifest"""
    trust: Annotated[UseAppendAction[tuple[Path, ...]], value("AUTHORITY.pem")] = ()
    """demand a signer whose certificate comes from this authority; may be given several times"""
    json: Json = None
    """also write the findings here"""

    def run(self) -> int:
        """Prints what was found; returns the exit code that goes with it."""
        from nldf_engine.avatar.provenance import inspect
        from nldf_engine.avatar.provenance.credentials import check_anchors
        from nldf_engine.base.errors import FileProblem
        from nldf_engine.media.containers import check_file

        authorities = []
        for path in self.trust:
            authorities.append(check_file(path, AUTHORITY).read_bytes())
            try:
                check_anchors(authorities[-1])
            except ValueError as error:
                raise FileProblem(path, "it holds no certificate in PEM form", AUTHORITY) from error
        found = inspect(self.video, authorities)
        print(describe(found, demanded=bool(self.trust)))
        refused = found.signer_problem or (self.trust and not found.signer_known)
        code = CODES[found.status]
        code = SIGNER_REFUSED if refused and found.status in ("intact", "foreign") else code
        save_results(self.json, {**found.to_json(), "exit_code": code})
        return code


def describe(found: Inspection, demanded: bool = False) -> str:
    """The findings as lines for a person."""
    generator = " ".join(found.generator.values()) or "a program that does not name itself"
    verdicts = {
        "intact": f"made by {generator}; not changed since it was signed",
        "tampered": "CHANGED since it was signed, or its manifest is damaged",
        "none": "there is no manifest: nothing shows where it comes from",
        "foreign": f"made by {generator}, which is not nldf_engine; not changed since it was signed",
    }
    lines = [f"{found.path}: {verdicts[found.status]}"]
    if found.status == "none" and "comment" in found.tags:
        lines[0] = f"{found.path}: there is no manifest; it was left off, or lost on the way"
    if found.signer:
        named = [found.signer.get(key, "") for key in ("name", "organisation")]
        if found.signer_problem:
            known = f"NOT VALID: {found.signer_problem}"
        elif found.signer_known:
            known = "an authority of --trust vouches for it" if demanded else "this machine's own key"
        else:
            known = "nobody known here vouches for that name"
        lines.append(f"    signer     {', '.join(filter(None, named))} ({known})")
    if found.status != "none":
        says = "yes, says the manifest" if found.synthetic else "the manifest does not say so"
        lines.append(f"    synthetic  {says}")
    if found.avatar:
        digest = found.avatar.get("sha256", "")
        lines.append(f"    avatar     {found.avatar.get('name')} ({found.avatar.get('system')})")
        lines.append(f"    its hash   {digest or 'none: it was never saved'}")
    if found.consent:
        lines.append(f"    consent    {_consent(found.consent)}")
    if found.earlier:
        lines.append(f"    earlier    manifests by {', '.join(found.earlier)} are inside")
    lines += [f"    problem    {text}" for text in found.problems]
    if found.status in ("none", "tampered"):
        lines += [f"    its tags say, unprotected: {key} = {text}" for key, text in found.tags.items()]
    # A stranger's file wrote some of this: no control character reaches the terminal, and no endless line.
    return "\n".join("".join(c if c.isprintable() else "?" for c in line[:LONGEST_LINE]) for line in lines)


def _consent(record: dict[str, str]) -> str:
    from nldf_engine.avatar.provenance import Consent

    try:
        return str(Consent.from_json(record))
    except ValueError:
        return "; ".join(f"{key}: {text}" for key, text in record.items())
