"""A rendered video says what made it and who agreed, signed; what was changed is seen."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import av
import c2pa
import cv2
import numpy as np
import pytest

from nldf_engine import __version__
from nldf_engine.apps.cli import main as cli
from nldf_engine.avatar import Avatar
from nldf_engine.avatar.provenance import Consent, find_credentials, inspect, seal
from nldf_engine.avatar.provenance.credentials import config_folder
from nldf_engine.avatar.provenance.origin import COMMENT, SOURCE_TYPE
from nldf_engine.base.errors import FileProblem
from nldf_engine.engine.clip import Clip
from nldf_engine.media.video import VideoWriter, read_frames


def media_offset(path: Path) -> int:
    """Somewhere within the pictures and sound of an mp4."""
    content = path.read_bytes()
    start = content.index(b"mdat")
    return start + (len(content) - start) // 2


def flipped(path: Path, offset: int, target: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    target.write_bytes(content)
    return target


def plain_video(path: Path, frames: int = 3) -> Path:
    with VideoWriter(path, 32, 32) as writer:
        for number in range(frames):
            writer.write(np.full((32, 32, 3), 40 * number, np.uint8))
    return path


def test_a_rendered_file_verifies(clip: Clip, signed: Path) -> None:
    """The manifest names package, avatar, its digest, the consent and IPTC's term for synthetic media."""
    found, avatar = inspect(signed), clip.frames.renderer.avatar
    assert found.status == "intact" and found.synthetic and not found.problems and not found.signer_problem
    assert found.generator == {"name": "nldf_engine", "version": __version__}
    assert found.avatar == {"name": "ada", "sha256": avatar.digest, "system": "nldf"}
    assert len(avatar.digest) == 64
    assert Consent.from_json(found.consent) == Consent(
        "given", "Ada Lovelace", "2026-01-31", "may be used in lectures"
    )
    assert found.signer["name"].startswith("signer ") and found.signer_known
    assert found.tags["digital_source_type"] == SOURCE_TYPE and found.tags["avatar"] == "ada"


def test_signing_changes_no_frame(clip: Clip, signed: Path, tmp_path: Path) -> None:
    """Pictures and sound packets are the same bytes with and without a manifest, which weighs under 20 kB."""
    plain = clip.save(tmp_path / "plain.mp4", provenance=False)
    packets = []
    for path in (signed, plain):
        with av.open(str(path)) as container:
            packets.append([bytes(packet) for packet in container.demux() if packet.size])
    assert packets[0] == packets[1] and len(packets[0]) >= 12
    assert all((a == b).all() for a, b in zip(read_frames(signed), read_frames(plain), strict=True))
    assert 0 < signed.stat().st_size - plain.stat().st_size < 20_000


def test_a_flipped_bit_is_seen(signed: Path, tmp_path: Path) -> None:
    """One bit of the pictures, of the record or of the index: each is called tampered."""
    content = signed.read_bytes()
    places = {
        "pictures": media_offset(signed),
        "record": content.index(b"Ada Lovelace") + 3,
        "index": content.index(b"stsz") + 12,
        "claim": content.index(b"claim_generator_info") + 2,
    }
    for name, offset in places.items():
        found = inspect(flipped(signed, offset, tmp_path / f"{name}.mp4"))
        assert found.status == "tampered" and found.problems, name
    (tmp_path / "longer.mp4").write_bytes(content + b"\0\0\0\x10mdat12345678")
    assert inspect(tmp_path / "longer.mp4").status == "tampered"


def test_a_video_cut_again_is_no_longer_ours(signed: Path, tmp_path: Path) -> None:
    """Re-encoding loses the manifest: the verdict is "none", and the tags alone never make it another."""
    with av.open(str(signed)) as container:
        comment = container.metadata["comment"]
    again = tmp_path / "again.mp4"
    with VideoWriter(again, 24, 24, metadata={"comment": comment}) as writer:
        for frame in read_frames(signed):
            writer.write(frame)
    found = inspect(again)
    assert found.status == "none" and found.tags == {"comment": COMMENT} and not found.signer


def test_another_programs_manifest_is_foreign(signed: Path, tmp_path: Path, issue) -> None:
    """A manifest of another generator is recognised, also over ours; a borrowed name is not enough."""
    chain, key, _ = issue()

    def signs(source: Path, target: Path, name: str, ingredient: Path | None = None) -> Path:
        definition = {
            "claim_generator_info": [{"name": name, "version": "9"}],
            "assertions": [
                {
                    "label": "c2pa.actions.v2",
                    "data": {
                        "actions": [
                            {
                                "action": "c2pa.created",
                                "digitalSourceType": "http://c2pa.org/digitalsourcetype/empty",
                            }
                        ]
                    },
                }
            ],
        }
        information = c2pa.C2paSignerInfo(b"es256", chain.read_bytes(), key.read_bytes(), None)
        with c2pa.Signer.from_info(information) as signer, c2pa.Builder(definition) as builder:
            if ingredient is not None:
                with open(ingredient, "rb") as stream:
                    builder.add_ingredient(
                        {"title": "before", "relationship": "componentOf"}, "video/mp4", stream
                    )
            builder.sign_file(str(source), str(target), signer)
        return target

    other = inspect(signs(plain_video(tmp_path / "plain.mp4"), tmp_path / "other.mp4", "Editor"))
    assert other.status == "foreign" and other.generator["name"] == "Editor" and not other.avatar
    assert not other.synthetic and not other.signer_known and other.signer["name"] == "Charles Babbage"
    over = inspect(signs(tmp_path / "plain.mp4", tmp_path / "over.mp4", "Editor", ingredient=signed))
    assert over.status == "foreign" and over.earlier == ["nldf_engine"]
    name_only = inspect(signs(tmp_path / "plain.mp4", tmp_path / "name.mp4", "nldf_engine"))
    assert name_only.status == "foreign"
    tampered = flipped(tmp_path / "other.mp4", media_offset(tmp_path / "other.mp4"), tmp_path / "bad.mp4")
    assert inspect(tampered).status == "tampered"


@pytest.mark.parametrize("kind", ["es256", "es384", "ps256", "ed25519"])
def test_a_signer_of_ones_own(kind: str, clip: Clip, tmp_path: Path, issue) -> None:
    """Certificates of every kind sign; only who trusts the authority knows the signer."""
    chain, key, authority = issue(kind)
    path = plain_video(tmp_path / "own.mov" if kind == "es384" else tmp_path / "own.mp4")
    seal(path, clip.frames.origin, find_credentials(chain, key))
    trusting, others = inspect(path, [authority.read_bytes()]), inspect(path)
    assert trusting.status == others.status == "intact"
    assert trusting.signer_known and not others.signer_known
    assert trusting.signer["name"] == "Charles Babbage"
    assert trusting.signer["organisation"] == "Analytical Engines"


def test_unfit_certificates_are_refused_before_rendering(
    clip: Clip, tmp_path: Path, issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key, purpose, day, password or file ends `save` at once, with a remedy and without a file."""
    chain, key, _ = issue()
    _, other_key, _ = issue("es384")
    server, server_key, _ = issue(purpose="1.3.6.1.5.5.7.3.1")
    old, old_key, _ = issue(days=0)
    locked, locked_key, _ = issue(password=b"sesame")
    rendered = []
    monkeypatch.setattr(type(clip.frames), "reused", lambda self, n: rendered.append(n) or iter(()))
    with pytest.raises(FileProblem, match="not the key of the certificate"):
        find_credentials(chain, other_key)
    with pytest.raises(FileProblem, match="valid from"):
        find_credentials(old, old_key)
    with pytest.raises(FileProblem, match="NLDF_SIGN_PASSWORD"):
        find_credentials(locked, locked_key)
    with pytest.raises(FileProblem, match="no certificate in PEM form"):
        find_credentials(key, key)
    with pytest.raises(ValueError, match="belong together"):
        find_credentials(chain)
    with pytest.raises(FileProblem, match="e-mail protection"):
        clip.save(tmp_path / "out.mp4", credentials=find_credentials(server, server_key))
    assert not rendered and not (tmp_path / "out.mp4").exists()
    monkeypatch.setenv("NLDF_SIGN_PASSWORD", "sesame")
    assert find_credentials(locked, locked_key).algorithm == "es256"
    monkeypatch.setenv("NLDF_SIGN_CERT", str(chain))
    with pytest.raises(ValueError, match="NLDF_SIGN_KEY"):
        find_credentials()
    monkeypatch.setenv("NLDF_SIGN_KEY", str(key))
    monkeypatch.delenv("NLDF_SIGN_PASSWORD")
    assert not find_credentials().local


def test_local_credentials_are_made_once_and_are_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key lies in a file that only its owner reads, is used again, and is never printed."""
    monkeypatch.setenv("NLDF_CONFIG", str(tmp_path / "configuration"))
    first, second = find_credentials(), find_credentials()
    assert first == second and first.local
    assert first.key not in repr(first).encode() and b"PRIVATE" in first.key
    if os.name == "posix":
        folder = config_folder() / "signing"
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, folder / "key.pem"]}
        assert modes == {folder: 0o700, folder / "key.pem": 0o600}
    (tmp_path / "file").touch()
    monkeypatch.setenv("NLDF_CONFIG", str(tmp_path / "file"))
    assert find_credentials().chain != first.chain
    assert "used once" in capsys.readouterr().err and (tmp_path / "file").read_bytes() == b""


def test_a_failed_signature_leaves_nothing(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where signing fails after the last frame, neither the video nor anything beside it stays."""

    def fails(*_: object, **__: object) -> None:
        raise c2pa.C2paError("Io: no")

    monkeypatch.setattr(c2pa.Builder, "sign", fails)
    with pytest.raises(FileProblem, match="can't be signed"):
        clip.save(tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_tags_stay(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where c2pa-python is missing the clip is saved with tags only, and a note names the remedy."""
    monkeypatch.setattr("nldf_engine.engine.clip.can_seal", lambda: False)
    found = inspect(clip.save(tmp_path / "out.mp4"))
    assert found.status == "none" and found.tags["avatar_sha256"] == clip.frames.origin.digest
    assert "pip install c2pa-python" in capsys.readouterr().err


def test_pictures_say_what_made_them(clip: Clip, tmp_path: Path) -> None:
    """Each PNG of a sequence carries IPTC's term in XMP, and its pixels are those of one without it."""
    marked, bare = clip.save(tmp_path / "marked"), clip.save(tmp_path / "bare", provenance=False)
    for name in ("00000.png", "00011.png"):
        content = (marked / name).read_bytes()
        assert SOURCE_TYPE.encode() in content and b"Ada Lovelace consented" in content
        assert SOURCE_TYPE.encode() not in (bare / name).read_bytes()
        np.testing.assert_array_equal(*(cv2.imread(str(folder / name), -1) for folder in (marked, bare)))
    with av.open(str(marked / "00000.png")) as container:  # FFmpeg checks the chunk's sum
        assert next(container.decode(video=0)).width == 24


def test_verify_answers_by_exit_code(
    signed: Path, tmp_path: Path, issue, capsys: pytest.CaptureFixture[str]
) -> None:
    """`nldf verify`: 0 intact, 3 tampered, 4 no manifest, 6 not by the demanded authority, 1 unreadable."""
    *_, authority = issue()
    tampered = flipped(signed, media_offset(signed), tmp_path / "tampered.mp4")
    plain = plain_video(tmp_path / "plain.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    cases = [
        ([str(signed)], 0, "not changed since"),
        ([str(tampered)], 3, "CHANGED"),
        ([str(plain)], 4, "there is no manifest"),
        ([str(signed), "--trust", str(authority)], 6, "nobody known here"),
        ([str(signed), "--trust", str(config_folder() / "signing" / "authority.pem")], 0, "vouches for it"),
    ]
    for number, (arguments, code, says) in enumerate(cases):
        report = tmp_path / f"{number}.json"
        assert cli.main(["verify", *arguments, "--json", str(report)]) == code
        assert says in capsys.readouterr().out
        assert json.loads(report.read_text())["exit_code"] == code
    assert cli.main(["verify", str(signed), "--trust", str(tmp_path / "text.mp4")]) == 1
    assert "no certificate" in capsys.readouterr().err
    hostile = tmp_path / "hostile.mp4"
    with VideoWriter(hostile, 32, 32, metadata={"comment": "\x1b[2J" + "x" * 9000}) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    assert cli.main(["verify", str(hostile)]) == 4
    said = capsys.readouterr().out
    assert "\x1b" not in said and "xxx" in said and len(said) < 2000
    assert cli.main(["verify", str(tmp_path / "text.mp4")]) == 1
    assert "can't be read" in capsys.readouterr().err


def test_consent_records(tmp_path: Path, clip: Clip) -> None:
    """A record is read as it was written; what is no record is refused, in a flag and in avatar.json."""
    record = Consent.parse(" Lovelace, Ada ,2026-01-31, may be used, in lectures ")
    assert record == Consent("given", "Lovelace, Ada", "2026-01-31", "may be used, in lectures")
    assert Consent.from_json(record.to_json()) == record and Consent.from_json(None) == Consent()
    for wrong in (
        "Ada",
        "Ada, 2026-13-01, yes",
        "Ada, 2026-01-31,",
        ", 2026-01-31, yes",
        "A\nB, 2026-01-31, y",
    ):
        with pytest.raises(ValueError, match="consent"):
            Consent.parse(wrong)
    with pytest.raises(ValueError, match="takes no name"):
        Consent("no-person", "Ada")
    clip.frames.renderer.avatar.save(tmp_path / "avatar")
    about = tmp_path / "avatar" / "avatar.json"
    info = json.loads(about.read_text())
    assert info["consent"]["name"] == "Ada Lovelace"
    for value in ({"kind": "maybe"}, "Ada", {"kind": "given", "name": 3}):
        about.write_text(json.dumps({**info, "consent": value}))
        with pytest.raises(FileProblem, match="consent"):
            Avatar.load(tmp_path / "avatar")
    del info["consent"]
    about.write_text(json.dumps(info))
    assert Avatar.load(tmp_path / "avatar").consent == Consent()
