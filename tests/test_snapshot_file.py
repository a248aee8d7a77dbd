# SPDX-License-Identifier: Apache-2.0
"""Tests of purecd.snapshot_file."""

import os
import secrets
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from purecd import snapshot_file
from purecd.snapshot_file import SnapshotFile

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file semantics")
ROOT = Path(snapshot_file.__file__).resolve().parent.parent


def save(path, data=b"new"):
    with SnapshotFile(path) as file:
        file.write(data)
        file.commit()


def names(directory):
    return sorted(each.name for each in directory.iterdir())


def test_a_committed_file_has_the_data_and_nothing_else_is_left(tmp_path):
    with SnapshotFile(tmp_path / "a.db") as file:
        file.write(b"one")
        file.write(b"")
        file.write(b"two")
        assert file.size == 6
        assert not (tmp_path / "a.db").exists()
        file.commit()
    assert (tmp_path / "a.db").read_bytes() == b"onetwo"
    assert names(tmp_path) == ["a.db"]


def test_an_existing_file_is_replaced(tmp_path):
    (tmp_path / "a.db").write_bytes(b"old and longer")
    save(tmp_path / "a.db")
    assert (tmp_path / "a.db").read_bytes() == b"new"


def test_a_relative_name_is_meant_in_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("a.db")
    assert names(tmp_path) == ["a.db"]


@pytest.mark.parametrize("reason", [ValueError, KeyboardInterrupt])
def test_without_a_commit_the_target_stays_and_the_new_file_goes(tmp_path, reason):
    (tmp_path / "a.db").write_bytes(b"old")
    with pytest.raises(reason), SnapshotFile(tmp_path / "a.db") as file:
        file.write(b"new")
        raise reason
    assert (tmp_path / "a.db").read_bytes() == b"old"
    assert names(tmp_path) == ["a.db"]


def test_discarding_twice_or_after_a_commit_does_nothing(tmp_path):
    file = SnapshotFile(tmp_path / "a.db")
    file.discard()
    file.discard()
    assert names(tmp_path) == []
    file = SnapshotFile(tmp_path / "a.db")
    file.commit()
    file.discard()
    assert names(tmp_path) == ["a.db"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_failing_disk_leaves_the_target_as_it_was(tmp_path, monkeypatch, call):
    # C43: ENOSPC and EIO.
    (tmp_path / "a.db").write_bytes(b"old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), SnapshotFile(tmp_path / "a.db") as file:
        monkeypatch.setattr(os, call, fail)
        file.write(b"new")
        file.commit()
    monkeypatch.undo()
    assert (tmp_path / "a.db").read_bytes() == b"old"
    assert names(tmp_path) == ["a.db"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    save(tmp_path / "a.db", b"ten bytes!")
    monkeypatch.undo()
    assert (tmp_path / "a.db").read_bytes() == b"ten bytes!"


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_the_owner_may_read_it_whatever_the_umask(tmp_path, umask):
    # C40
    before = os.umask(umask)
    try:
        save(tmp_path / "a.db")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.db").stat().st_mode) == 0o600


@posix
def test_a_link_at_the_target_is_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "a.db").symlink_to(victim)
    save(tmp_path / "a.db")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "a.db").is_symlink()
    assert (tmp_path / "a.db").read_bytes() == b"new"


@posix
def test_a_link_at_the_new_file_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0123456789abcdef")
    (tmp_path / ".a.db.0123456789abcdef.part").symlink_to(victim)
    with pytest.raises(FileExistsError):
        SnapshotFile(tmp_path / "a.db")
    assert victim.read_bytes() == b"precious"


def test_a_missing_directory_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError):
        SnapshotFile(tmp_path / "missing" / "a.db")
    with pytest.raises(IsADirectoryError):
        SnapshotFile(str(tmp_path) + "/")


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no such advice")
@pytest.mark.parametrize("refused", [False, True])
def test_the_system_is_told_to_write_while_more_is_received(tmp_path, monkeypatch, refused):
    ranges = []
    real = os.posix_fadvise

    def advise(descriptor, start, length, advice):
        ranges.append((start, start + length))
        if refused:
            raise OSError("not here")
        real(descriptor, start, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    piece = os.urandom(3 << 20)
    with SnapshotFile(tmp_path / "db") as file:
        for _ in range(7):
            file.write(piece)
        file.commit()
    assert ranges == [(0, 9 << 20), (9 << 20, 18 << 20)]
    assert (tmp_path / "db").read_bytes() == piece * 7


@posix
def test_file_and_directory_are_synced(tmp_path, monkeypatch):
    # C42: the data before the rename, the rename before the end.
    log = []
    fsync, replace = os.fsync, os.replace

    def note_sync(descriptor):
        log.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_replace(source, target):
        log.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    save(tmp_path / "a.db")
    assert log == ["file", "rename", "directory"]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from purecd import snapshot_file
step = int(sys.argv[3])
def count():
    global step
    step -= 1
    if step < 0:
        os.kill(os.getpid(), signal.SIGKILL)
for name in ("open", "write", "fsync", "replace", "close"):
    def wrapped(*arguments, real=getattr(os, name)):
        count()
        return real(*arguments)
    setattr(os, name, wrapped)
with snapshot_file.SnapshotFile(sys.argv[2]) as file:
    for _ in range(5):
        file.write(b"new!")
    file.commit()
count()
"""


@posix
@pytest.mark.parametrize("step", range(13))
def test_a_killed_process_leaves_the_old_or_the_new_file(tmp_path, step):
    # C42: kill -9 at any point; what it leaves behind is removed by the next one.
    target = tmp_path / "a.db"
    target.write_bytes(b"old")
    command = [sys.executable, "-S", "-c", KILLED, str(ROOT), str(target), str(step)]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    renamed = step > 7  # open, 5 writes, fsync and the rename itself come before
    assert target.read_bytes() == (b"new!" * 5 if renamed else b"old")
    assert len(names(tmp_path)) == (1 if renamed or step == 0 else 2)
    save(target, b"newer")
    assert names(tmp_path) == ["a.db"]
    assert target.read_bytes() == b"newer"


@posix
def test_the_file_of_a_living_process_is_left_alone(tmp_path):
    with SnapshotFile(tmp_path / "a.db") as slow:
        slow.write(b"slow")
        save(tmp_path / "a.db", b"fast")
        assert (tmp_path / "a.db").read_bytes() == b"fast"
        slow.commit()
    assert (tmp_path / "a.db").read_bytes() == b"slow"
    assert names(tmp_path) == ["a.db"]


@posix
def test_only_what_is_certainly_ours_is_taken_for_abandoned(tmp_path):
    others = [".a.db.part", ".a.db.0123456789abcdef.tmp", ".b.db.0123456789abcdef.part", "a.db.part"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".a.db.0000000000000000.part").mkdir()
    (tmp_path / ".a.db.1111111111111111.part").symlink_to(tmp_path / "a.db.part")
    save(tmp_path / "a.db")
    kept = [".a.db.0000000000000000.part", ".a.db.1111111111111111.part"]
    assert names(tmp_path) == sorted([*others, *kept, "a.db"])


@posix
def test_a_file_removed_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    lock = snapshot_file._lock
    removed: list[Path] = []

    def slow_lock(descriptor):
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()
        lock(descriptor)

    monkeypatch.setattr(snapshot_file, "_lock", slow_lock)
    save(tmp_path / "a.db")
    assert removed
    assert names(tmp_path) == ["a.db"]


def test_without_locks_nothing_is_taken_for_abandoned(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot_file, "fcntl", None)
    (tmp_path / ".a.db.0123456789abcdef.part").touch()
    save(tmp_path / "a.db")
    assert names(tmp_path) == [".a.db.0123456789abcdef.part", "a.db"]
