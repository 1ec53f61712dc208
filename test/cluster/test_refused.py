"""Who is of no cluster, or of another, does not come in; and what proves it is shown to nobody."""

from __future__ import annotations

from pathlib import Path

from harness import eventually
from identities import Authority
from members import COOKIE
from topics import Listeners

REFUSED = "why: it is there and refuses"


def test_a_node_with_another_cookie_or_cluster_name_is_refused(make):
    cluster = make(count=4)
    one, two, stranger, other = cluster.members
    stranger.variables["HORNBEAM_CLUSTER_COOKIE"] = "not-that-of-the-others"
    other.words += ["--cluster", "other"]
    cluster.serve()
    eventually(lambda: REFUSED in stranger.log and REFUSED in other.log)
    eventually(lambda: one.knows() == {two.name})
    assert "rejected" in one.log + two.log
    assert [member.knows() for member in (two, stranger, other)] == [{one.name}, set(), set()]


def test_a_cookie_is_in_no_command_line_and_in_no_environment_but_the_commands_own(make):
    (member,) = make(count=1).members
    member.restart()
    with_it = {pid for pid in member.process.pids() if COOKIE in environment(pid)}
    assert with_it == {member.process.process.pid}
    assert not [pid for pid in processes() if COOKIE.encode() in words(pid)]


def test_a_cookie_may_stand_in_a_file(make, tmp_path):
    file = tmp_path / "cookie"
    file.write_text(f"{COOKIE}\n")
    cluster = make("--cluster-cookie-file", str(file), count=2)
    del cluster.members[0].variables["HORNBEAM_CLUSTER_COOKIE"]
    cluster.members[1].words = cluster.members[1].words[:-2]
    cluster.start()


def processes() -> list[Path]:
    return [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def words(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


# TLS


def test_nodes_speak_tls_to_each_other_and_refuse_a_foreign_certificate(make, tmp_path):
    ours, theirs = (Authority(made(tmp_path / name)) for name in ("ours", "theirs"))
    cluster = make()
    one, two, stranger = cluster.members
    for member, authority in ((one, ours), (two, ours), (stranger, theirs)):
        identity = authority.server()
        member.variables = {}
        member.words += [
            *("--cluster-certfile", str(identity.certfile)),
            *("--cluster-keyfile", str(identity.keyfile)),
            *("--cluster-cacertfile", str(authority.cafile)),
        ]
    cluster.serve()
    eventually(lambda: (one.knows(), two.knows()) == ({two.name}, {one.name}))
    eventually(lambda: REFUSED in stranger.log)
    assert stranger.knows() == set()
    Listeners([one, two]).settled()


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
