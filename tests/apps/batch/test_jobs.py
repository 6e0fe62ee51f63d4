"""Job files: what they mean, and what is refused before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nldf_engine.apps.batch.jobs import batched, read_jobs
from nldf_engine.apps.batch.tasks import plan
from nldf_engine.apps.cli import main as cli
from nldf_engine.base.errors import FileProblem

Write = Callable[..., Path]
Make = Callable[..., dict[str, Any]]


def test_the_three_forms_say_the_same(job_file: Write, render: Make) -> None:
    """YAML, JSON and CSV of the same jobs; defaults of a command, switches, lists of settings."""
    train = {"preset": "nldf-tiny", "dataset": "data", "output": "me", "set": {"pool.on": False, "rays": 64}}
    train |= {"resume": True}
    as_json = [
        {**render("out/a.mp4", **{"no-provenance": True, "yaw": -3.5, "gate": True}), "name": "one"},
        {"train": train},
    ]
    as_yaml = """
    defaults: {render: {size: 24, no_provenance: true, avatar: avatar}}
    jobs:
      - name: one
        render: {audio: a.wav, output: out/a.mp4, yaw: -3.5, gate: on}
      - train: {preset: nldf-tiny, dataset: [data], output: me, resume: yes, set: {pool.on: off, rays: 64}}
    """
    as_csv = (
        "command,name,avatar,audio,output,size,yaw,gate,no-provenance,preset,dataset,resume,set\n"
        "render,one,avatar,a.wav,out/a.mp4,24,-3.5,yes,on,,,,\n"
        "train,,,,me,,,,,nldf-tiny,data,true,pool.on=off;rays=64\n"
    )
    forms = [(as_json, "j.json"), (as_yaml, "j.yaml"), (as_csv, "j.csv")]
    found = [read_jobs(job_file(text, name)) for text, name in forms]
    for jobs in found:
        assert [job.made for job in jobs] == [job.made for job in found[0]]
        assert [job.name for job in jobs] == ["one", "me"]
    first, second = (job.made for job in found[0])
    assert first.no_provenance and first.edits.yaw == -3.5 and first.edits.gate and first.out == "out/a.mp4"
    assert second.set == ("pool.on=off", "rays=64") and second.resume and second.dataset == (Path("data"),)
    assert {"render", "train", "evaluate"} <= set(batched()) and "serve" not in batched()


def test_jobs_need_those_that_write_what_they_read(job_file: Write, render: Make) -> None:
    """Whatever their order in the file; paths in a job's output count as well."""
    train = {"train": {"preset": "nldf-tiny", "dataset": "data", "output": "avatars/me"}}
    late = render("out.mp4", avatar="./avatars/me")
    sheet = {"evaluate": {"paths": ["avatars/me", "data"], "output": "report"}}
    jobs = {job.name: job.needs for job in read_jobs(job_file([late, sheet, train, render("alone.mp4")]))}
    assert jobs == {
        "out.mp4": ("avatars-me",), "report": ("avatars-me",), "avatars-me": (), "alone.mp4": ()
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"avatar": "nobody"}, "nobody"),
        ({"audio": "none.wav"}, r"none\.wav: there is no such file"),
        ({"colour": "red"}, "colour"),
        ({"size": "wide"}, "size"),
        ({"size": 100_000}, "size"),
        ({"output": "a.gif"}, "gif"),
        ({"output": ""}, "output"),
        ({"poses": "no.json"}, r"no\.json"),
        ({"device": "abacus"}, "--device is auto"),
        ({"mouth": [1, 2]}, "mouth: expected text or a number"),
        ({"background": {"a": 1}}, "background: expected text or a number"),
        ({"help": True}, "asks for help"),
        # What may not be read or written at all.
        ({"output": "/tmp/x.mp4"}, "leads out of"),
        ({"output": "../x.mp4"}, "leads out of"),
        ({"audio": "/etc/passwd"}, "leads out of"),
        ({"avatar": "a/../../b"}, "leads out of"),
        ({"output": "link/x.mp4"}, "leads out of"),
        ({"json": "../x.json"}, "leads out of"),
        ({"background": "../../secret.png"}, "leads out of"),
        ({"avatar": "--json=/tmp/x"}, "expected no flag"),
        ({"output": "a\n.mp4"}, "control characters"),
        ({"output": "a\0.mp4"}, "control characters"),
    ],
)
def test_one_bad_job_refuses_the_file(
    job_file: Write, render: Make, folder: Path, flags: dict[str, Any], said: str
) -> None:
    """The message names file, job and reason; nothing has been made or run."""
    (folder / "link").symlink_to(folder.parent, target_is_directory=True)
    bad = render("bad.mp4")["render"] | flags
    path = job_file([render("good.mp4"), {"name": "bad", "render": bad}])
    before = sorted(folder.rglob("*"))
    with pytest.raises(FileProblem, match=said) as caught:
        read_jobs(path)
    assert str(path) in str(caught.value) and "job 2 (bad)" in str(caught.value)
    assert sorted(folder.rglob("*")) == before and Path.cwd() != folder


def test_a_wider_root_is_for_who_says_so(job_file: Write, render: Make, folder: Path) -> None:
    """With --root, paths may lead as far as that."""
    path = job_file([render("../x.mp4", avatar=str(folder / "avatar"))])
    (job,) = read_jobs(path, folder.parent)
    assert job.writes == (Path("../x.mp4"),)
    with pytest.raises(FileProblem, match="leads out of"):
        read_jobs(path, folder / "avatar")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a list of jobs"),
        ("jobs: []", "0 jobs"),
        ("jobs: {a: 1}", "expected a list of jobs"),
        ("other: []", "expected a list of jobs"),
        ("- render", "job 1: expected one command"),
        ("- {render: {}, train: {}}", "job 1: expected one command"),
        ("- {shell: {command: ls}}", "'shell' is no command for a batch"),
        ("- {serve: {avatars: avatar}}", "'serve' is no command for a batch"),
        ("- {render: {}, name: 3}", "a name as text"),
        ("- {render: {}, name: a/b}", "job 1"),
        ("- !!python/object/apply:os.system ['touch owned']", "can't be read as yaml"),
        ("- {render: !!python/name:os.system }", "can't be read as yaml"),
        ("- " + "[" * 3000, "can't be read as yaml"),
        ("- {render: {a: 1", "can't be read as yaml"),
        ("\x00", "can't be read as yaml"),
    ],
)
def test_damaged_and_hostile_files(job_file: Write, folder: Path, text: str, said: str) -> None:
    """A clear message, and no code of the file's has run."""
    with pytest.raises(FileProblem, match=said):
        read_jobs(job_file(text, "jobs.yaml"))
    assert not (folder / "owned").exists() and not (Path.cwd() / "owned").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("avatar,audio\na,b\n", "one must be command"),
        ("command,command\na,b\n", "none may come twice"),
        ("command,avatar\nrender,a,b\n", "line 2 has another number of cells"),
        ("command,avatar\nrender\n", "line 2 has another number of cells"),
        ('command,avatar\n"render', "can't be read as csv"),
        ("command\n", "0 jobs"),
    ],
)
def test_damaged_tables(job_file: Write, text: str, said: str) -> None:
    """As for YAML."""
    with pytest.raises(FileProblem, match=said):
        read_jobs(job_file(text, "jobs.csv"))


def test_files_of_other_kinds(job_file: Write, folder: Path) -> None:
    """An ending that is none, bytes that are no text, and none at all."""
    with pytest.raises(FileProblem, match="give it one of these endings"):
        read_jobs(job_file("x", "jobs.pkl"))
    (folder / "bytes.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(FileProblem, match="can't be read as json"):
        read_jobs(folder / "bytes.json")
    with pytest.raises(FileProblem, match="there is no such file"):
        read_jobs(folder / "none.json")


def test_jobs_that_do_not_go_together(job_file: Write, render: Make) -> None:
    """Two of one name, of one output, one inside another's, and two that wait for each other."""
    both = [render("x/a.mp4"), render("./x/../x/a.mp4")]
    with pytest.raises(FileProblem, match=r"is the output of 'x-a.mp4' too"):
        read_jobs(job_file([both[0], {**both[1], "name": "two"}]))
    with pytest.raises(FileProblem, match=r"two jobs named 'x-a.mp4'"):
        read_jobs(job_file(both))
    with pytest.raises(FileProblem, match=r"'pictures-a.mp4' writes into the output of 'pictures'"):
        read_jobs(job_file([render("pictures", background="transparent"), render("pictures/a.mp4")]))
    train = {"preset": "nldf-tiny", "dataset": "data"}
    round_ = [
        {"train": {**train, "output": "a", "head": "b"}},
        {"train": {**train, "output": "b", "head": "a"}},
    ]
    with pytest.raises(FileProblem, match="a, b wait for each other"):
        read_jobs(job_file(round_))


def test_many_problems_are_counted(job_file: Write, render: Make) -> None:
    """The first ones are named, and how many more there are."""
    with pytest.raises(FileProblem, match=r"job 1: .*job 5: .*; and 3 more\. To fix it"):
        read_jobs(job_file([render(f"{number}.gif") for number in range(8)]))


def test_long_renders_become_stretches(job_file: Write, render: Make, folder: Path) -> None:
    """Each a task, and one that joins them; nothing shorter than a stretch is left for the last."""
    jobs = read_jobs(job_file([render("a.mp4"), render("b.mp4", audio="b.wav")]))
    tasks = plan(jobs, folder / "jobs.batch", 0.25)
    assert [task.name for task in tasks] == [f"{n}.mp4{k}" for n in "ab" for k in (".0", ".1", ".2", "")]
    assert tasks[3].needs == ("a.mp4.0", "a.mp4.1", "a.mp4.2") and len(tasks[3].spent) == 3
    assert [task.name for task in plan(jobs, folder / "jobs.batch", 0.5)] == ["a.mp4", "b.mp4"]
    assert len(plan(jobs, folder / "jobs.batch", None)) == 2


def test_the_command_refuses_in_one_line(
    job_file: Write, render: Make, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 for a bad job, 2 for flags that do not go together; --check runs nothing."""
    bad = job_file([render("a.gif")], "bad.json")
    assert cli.main(["batch", str(bad)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    good = str(job_file([render("a.mp4")]))
    assert cli.main(["batch", good, "--check", "--stretch", "0.2"]) == 0
    assert capsys.readouterr().out.endswith("jobs.json: 1 jobs, 5 tasks; all can be run\n")
    for flags in (("--ray", "auto", "--workers", "2"), ("--retries", "-1"), ("--workers", "0")):
        assert cli.main(["batch", good, *flags]) == 2
    assert not (folder / "a.mp4").exists() and not os.path.exists(folder / "jobs.batch")
