"""Reading a video's manifest back: who signed it, whether it is what was signed, what made it."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nldf_engine.avatar.provenance.credentials import check_anchors, local_authority
from nldf_engine.avatar.provenance.origin import ASSERTION, GENERATOR, SOURCE_TYPE, Origin
from nldf_engine.avatar.provenance.sealing import SETTINGS
from nldf_engine.base.errors import FileProblem
from nldf_engine.media.containers import check_file, opened, tags_of

# How the box that holds manifests in mp4 and mov is named (ISO 16684, UUID).
C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
# What may be wrong with the signer while the file is just what was signed.
SIGNER_FAILURES = ("signingCredential.", "claimSignature.outsideValidity", "timeStamp.")
UNKNOWN = "signingCredential.untrusted"


@dataclass(frozen=True)
class Inspection:
    """What a video says of where it comes from.

    Args:
        path: the file.
        status: "intact" (made by nldf_engine, and just as it was signed), "tampered" (changed since it was
            signed), "none" (it holds no manifest), "foreign" (intact, and made by another program).
        signer: name, organisation, serial and algorithm of the certificate; empty where none is readable.
        signer_known: the certificate comes from an authority that this machine, or the caller, trusts.
        signer_problem: why the certificate does not count (expired, not made for this); empty otherwise.
        generator: name and version of what wrote the manifest.
        synthetic: the manifest says that a trained model made it.
        avatar: name, SHA-256 and system; empty where the manifest is not ours.
        consent: the avatar's consent record; empty where the manifest is not ours.
        earlier: generators of the manifests inside it that a later one was put over.
        tags: what the container's metadata say; nothing protects them.
        problems: what did not match, in words.
    """

    path: str
    status: str
    signer: dict[str, str] = field(default_factory=dict)
    signer_known: bool = False
    signer_problem: str = ""
    generator: dict[str, str] = field(default_factory=dict)
    synthetic: bool = False
    avatar: dict[str, str] = field(default_factory=dict)
    consent: dict[str, str] = field(default_factory=dict)
    earlier: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self)


def inspect(path: str | Path, trusted: Iterable[bytes] = ()) -> Inspection:
    """Reads and checks the manifest of a video. Nothing is fetched from the network.

    Args:
        path: a video or picture.
        trusted: PEM certificates of authorities whose signers count as known; where none are given, the
            authority of this machine's own local credentials.

    Raises:
        FileProblem: the file is missing, or can be read neither as media nor as a manifest.
        ValueError: what is trusted is no certificate.
        ModuleNotFoundError: the library c2pa-python is not installed.
    """
    import c2pa

    path = check_file(path)
    settings = dict(SETTINGS)
    if anchors := b"\n".join(trusted) or local_authority():
        settings["trust"] = {"user_anchors": check_anchors(anchors).decode("ascii")}
    try:
        with c2pa.Context.from_dict(settings) as context:
            reader = c2pa.Reader.try_create(str(path), context=context)
            if reader is None:
                return Inspection(str(path), "none", tags=_tags(path))
            with reader:
                store, state = json.loads(reader.json()), str(reader.get_validation_state())
    except c2pa.C2paError as error:
        if _has_box(path):
            said = " ".join(str(error).split())
            return Inspection(str(path), "tampered", problems=[f"its manifest can't be read ({said})"])
        # Formats that hold no manifests end here, and so do damaged files, which can't be opened.
        return Inspection(str(path), "none", tags=_tags(path))
    return _judge(path, store, state)


def _judge(path: Path, store: dict[str, Any], state: str) -> Inspection:
    manifests = store.get("manifests", {})
    active = manifests.get(store.get("active_manifest"), {})
    failures = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    failures = failures or store.get("validation_status", [])
    about_signer = [f for f in failures if str(f.get("code")).startswith(SIGNER_FAILURES)]
    about_content = [f for f in failures if f not in about_signer]
    problem = [_words(f) for f in about_signer if f.get("code") != UNKNOWN]
    generator = (active.get("claim_generator_info") or [{}])[0]
    assertions = {item.get("label"): item.get("data") for item in active.get("assertions", [])}
    rendering = assertions.get(ASSERTION)
    ours = generator.get("name") == GENERATOR and isinstance(rendering, dict)
    intact = not about_content and (state in ("Valid", "Trusted") or bool(problem))
    signature = active.get("signature_info") or {}
    names = {
        "common_name": "name", "issuer": "organisation", "cert_serial_number": "serial", "alg": "algorithm",
    }  # fmt: skip
    return Inspection(
        str(path),
        ("intact" if ours else "foreign") if intact else "tampered",
        signer={ours_: str(signature[theirs]) for theirs, ours_ in names.items() if signature.get(theirs)},
        signer_known=state == "Trusted",
        signer_problem="; ".join(problem),
        generator={key: str(generator[key]) for key in ("name", "version") if key in generator},
        synthetic=SOURCE_TYPE in json.dumps(assertions),
        avatar=_texts(rendering, "avatar") if ours else {},
        consent=_texts(rendering, "consent") if ours else {},
        earlier=[
            str((other.get("claim_generator_info") or [{}])[0].get("name", "unnamed"))
            for label, other in manifests.items()
            if label != store.get("active_manifest")
        ],
        tags=_tags(path, damaged=not intact),
        problems=[_words(failure) for failure in about_content]
        or ([] if intact else ["its manifest is not valid"]),
    )


def _texts(rendering: Any, key: str) -> dict[str, str]:
    value = rendering.get(key)
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def _words(failure: dict[str, Any]) -> str:
    return f"{failure.get('explanation') or 'not valid'} ({failure.get('code')})"


def _tags(path: Path, damaged: bool = False) -> dict[str, str]:
    """The container's metadata under the names of `Origin.tags`; none of a file that is too damaged."""
    known = Origin("", "", "").tags()
    try:
        with opened(path) as container:
            tags = tags_of(container)
    except FileProblem:
        if damaged:
            return {}
        raise
    return {key: tags[key] for key in known if key in tags}


def _has_box(path: Path) -> bool:
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(C2PA_BOX) >= 0
