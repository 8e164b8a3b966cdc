"""The cache of compiled models: damage, foreign folders, full disks, and many processes at once."""

from __future__ import annotations

import errno
import fcntl
import grp
import multiprocessing
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import headers
import numpy as np
import pytest
from small_models import mlp
from test_runtime_toolchain import counting_compiler, fresh, run_python  # noqa: F401 (fixtures)

from sofie_root.errors import StorageError
from sofie_root.runtime import cache, exclusive
from sofie_root.runtime.generated import generated
from sofie_root.runtime.session import open_header
from sofie_root.storage.trust import why_not_private

X = np.array([[1, 2, 3, 4]], np.float32)
NOBODY = 65534


@pytest.fixture(autouse=True)
def _no_warning_was_given_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_warnings", set())


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the cache is when the user's cannot be used."""
    folder = tmp_path / "temporary"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(cache, "process_folder", lambda: folder)
    return folder


def write(text: str) -> Callable[[Path], None]:
    """What makes an entry of one file."""
    return lambda folder: (folder / "file").write_text(text) and None


def content(text: str = "new") -> str:
    """Content of the entry ``name``, which is made with this text if need be."""
    return (cache.entry("name", write(text), "writes") / "file").read_text()


# -- entries ---------------------------------------------------------------------------------------


def test_an_entry_is_made_once(fresh: Path) -> None:  # noqa: F811
    assert content("old") == "old"
    assert content("new") == "old"
    assert sorted(p.name for p in fresh.iterdir()) == [".lock", "name"]
    for path in (fresh, fresh / "name", *(fresh / "name").iterdir()):
        assert not path.stat().st_mode & 0o022


def test_checksums_are_of_the_form_that_xxh128sum_reads(fresh: Path) -> None:  # noqa: F811
    content()
    lines = (fresh / "name" / cache.CHECKSUMS).read_text().splitlines()
    assert lines[0].split("  ") == [lines[0][:32], "file"]
    assert [len(line) for line in lines] == [32 + 2 + 4, 32]


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda e: (e / "file").write_text(""),
    "cut": lambda e: os.truncate(e / "file", 2),
    "longer": lambda e: (e / "file").write_text("old "),
    "flipped": lambda e: (e / "file").write_text("olD"),
    "missing": lambda e: (e / "file").unlink(),
    "no list": lambda e: (e / cache.CHECKSUMS).unlink(),
    "empty list": lambda e: (e / cache.CHECKSUMS).write_text(""),
    "list without seal": lambda e: os.truncate(e / cache.CHECKSUMS, 39),
    "list of nothing": lambda e: os.truncate(e / cache.CHECKSUMS, 0),
    "list is no text": lambda e: (e / cache.CHECKSUMS).write_bytes(b"\xff\xfe\x00"),
    "a file instead": lambda e: (shutil.rmtree(e), e.write_text("old")),
    "a link to nowhere": lambda e: (shutil.rmtree(e), e.symlink_to("nowhere")),
    "a link to a folder": lambda e: e.symlink_to(e.rename(e.with_name("elsewhere"))),
    "a linked file": lambda e: (e / "file").symlink_to((e / "file").rename(e / "f2")),
    "a pipe": lambda e: ((e / "file").unlink(), os.mkfifo(e / "file")),
    "a folder": lambda e: ((e / "file").unlink(), (e / "file").mkdir()),
    "writable by others": lambda e: (e / "file").chmod(0o666),
    "folder writable by others": lambda e: e.chmod(0o777),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entry_is_made_again(fresh: Path, kind: str) -> None:  # noqa: F811
    content("old")
    DAMAGE[kind](fresh / "name")
    assert content("new") == "new"
    assert content("newer") == "new"
    left = {p.name for p in fresh.iterdir()} - {"elsewhere"}
    assert left == {".lock", "name"}


@pytest.mark.parametrize("file", ["model.hxx", "model.dat", "example.dat", cache.CHECKSUMS])
def test_a_damaged_model_heals(fresh: Path, file: str) -> None:  # noqa: F811
    model = mlp()
    first = generated(model)
    (entry,) = fresh.glob("generated-*")
    expected = {path.name: path.read_bytes() for path in entry.iterdir()}
    assert set(expected) == {"example.dat", "model.dat", "model.hxx", cache.CHECKSUMS}
    size = len(expected[file])
    for cut in (0, 1, size // 2, size - 1):
        os.truncate(entry / file, cut)
        again = generated(model)
        assert {path.name: path.read_bytes() for path in entry.iterdir()} == expected
        assert again.text == first.text
        np.testing.assert_equal((again.inputs, again.outputs), (first.inputs, first.outputs))


def test_a_damaged_library_is_compiled_again(fresh: Path) -> None:  # noqa: F811
    """In fresh processes: the loader remembers a library that it has open, and half a library is a SIGBUS."""
    code = """
        import headers
        from sofie_root.runtime import compiler
        from sofie_root.runtime.session import open_header
        compiler.COMPILER_FLAGS += ("-O0",)
        session = open_header(headers.dense("damaged"), jit="compiler")
        print(session([[1, 2, 3, 4]]).item())
    """
    assert run_python(code, SOFIE_ROOT_CACHE=str(fresh)) == "30.0\n"
    (library,) = fresh.glob("compiled-*/*.so")
    whole = library.stat().st_size
    for size in (0, 100, whole // 2, whole - 1):
        os.truncate(library, size)
        assert run_python(code, SOFIE_ROOT_CACHE=str(fresh)) == "30.0\n"
        assert library.stat().st_size == whole


def test_an_exception_leaves_nothing_behind(fresh: Path) -> None:  # noqa: F811
    def fail(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise KeyError("no model")

    with pytest.raises(KeyError):
        cache.entry("name", fail, "fails")
    assert [p.name for p in fresh.iterdir()] == [".lock"]


# -- whose folder it is ----------------------------------------------------------------------------


def unsafe(folder: Path, kind: str) -> Path:
    """A cache folder that somebody else may have filled."""
    inside = folder / "inside"
    inside.mkdir(parents=True, mode=0o700)
    inside.chmod(0o700)
    if kind == "writable by all":
        inside.chmod(0o777)
    elif kind == "writable by all, sticky":
        inside.chmod(0o1777)
    elif kind == "writable by a group":
        inside.chmod(0o770)
        os.chown(inside, -1, NOBODY)
    elif kind == "parent writable by all":
        folder.chmod(0o777)
    elif kind == "of another user":
        os.chown(inside, NOBODY, NOBODY)
    elif kind == "parent of another user":
        os.chown(folder, NOBODY, NOBODY)
    elif kind == "link of another user":
        link = folder / "link"
        link.symlink_to(inside)
        os.lchown(link, NOBODY, NOBODY)
        return link
    elif kind == "below a link of another user":
        (inside / "deep").mkdir(mode=0o700)
        return unsafe(folder / "more", "link of another user").parent / "link" / ".." / "link"
    elif kind == "link into a folder writable by all":
        folder.chmod(0o777)
        link = folder.parent / "link"
        link.symlink_to(inside)
        return link
    elif kind == "circle":
        link = folder / "link"
        link.symlink_to(link)
        return link
    return inside


UNSAFE = {
    "writable by all": "writable by others",
    "writable by all, sticky": "writable by others",
    "writable by a group": "writable by others",
    "parent writable by all": "writable by others",
    "of another user": "belongs to user",
    "parent of another user": "belongs to user",
    "link of another user": "belongs to user",
    "below a link of another user": "belongs to user",
    "link into a folder writable by all": "writable by others",
    "circle": "circle|symbolic links|File exists",
}
NEEDS_ROOT = ("of another user", "a group")


@pytest.mark.parametrize("kind", UNSAFE)
def test_a_cache_that_others_could_fill_is_not_used(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if os.geteuid() != 0 and any(part in kind for part in NEEDS_ROOT):
        pytest.skip("only root can give files away")
    folder = unsafe(tmp_path / "cache", kind)
    monkeypatch.setenv("SOFIE_ROOT_CACHE", str(folder))
    with pytest.warns(RuntimeWarning, match=f"(?i){UNSAFE[kind]}.*SOFIE_ROOT_CACHE names"):
        assert content() == "new"
    assert content() == "new"  # warns once
    assert (temporary / "name" / "file").exists()
    if kind != "circle":
        assert not list(folder.glob("name*"))


def test_planted_code_is_not_run(temporary: Path, tmp_path: Path) -> None:
    """Whoever makes the cache in a shared folder first, with valid checksums, changes nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    code = """
        import headers, glob, os
        from sofie_root.runtime.session import open_header
        print(open_header(headers.dense("planted"), jit="compiler")([[1, 2, 3, 4]]).item())
        print(*glob.glob(os.environ["SOFIE_ROOT_CACHE"] + "/compiled-*/*.so"))
    """
    folder = str(shared / "cache")
    _, library = run_python(code, SOFIE_ROOT_CACHE=folder).split()
    evil = "#include <cstdlib>\n__attribute__((constructor)) void run() { std::_Exit(7); }\n"
    (tmp_path / "evil.cxx").write_text(evil)
    command = ["g++", "-shared", "-fPIC", str(tmp_path / "evil.cxx"), "-o", library]
    subprocess.run(command, check=True)
    entry = Path(library).parent
    (entry / cache.CHECKSUMS).unlink()
    cache._seal(entry)
    with pytest.raises(
        AssertionError
    ):  # the same entry, if it is the user's own: the attack is real
        run_python(code, SOFIE_ROOT_CACHE=folder)
    for path in (shared / "cache").rglob("*"):
        os.lchown(path, NOBODY, NOBODY)
    assert run_python(code, SOFIE_ROOT_CACHE=folder).startswith("30.0\n")
    os.chown(folder, NOBODY, NOBODY)
    assert run_python(code, SOFIE_ROOT_CACHE=folder).startswith("30.0\n")


def test_files_of_another_user_in_the_own_cache_are_replaced(fresh: Path) -> None:  # noqa: F811
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for path in ("name/file", f"name/{cache.CHECKSUMS}", "name"):
        shutil.rmtree(fresh, ignore_errors=True)
        content("old")
        os.chown(fresh / path, NOBODY, NOBODY)
        assert content("new") == "new"


@pytest.mark.parametrize(
    ("group", "is_mine", "members", "private"),
    [
        ("ana", True, [], True),
        ("ana", True, ["ana"], True),
        ("ana", True, ["ana", "ben"], False),
        ("atlas", True, [], False),
        ("ana", False, [], False),
        (None, True, [], False),
    ],
)
def test_a_group_that_is_the_user_alone_is_nobody_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    group: str | None,
    is_mine: bool,
    members: list[str],
    private: bool,
) -> None:
    """Many systems give each user a group, and a umask with which that may write."""

    def find_group(number: int) -> grp.struct_group:
        if group is None:
            raise KeyError(number)
        return grp.struct_group((group, "x", number, members))

    tmp_path.chmod(0o770)
    number = tmp_path.stat().st_gid if is_mine else tmp_path.stat().st_gid + 1
    user = pwd.struct_passwd(("ana", "x", os.geteuid(), number, "", "/home/ana", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: user)
    monkeypatch.setattr(grp, "getgrgid", find_group)
    assert (why_not_private(tmp_path) is None) == private


# -- caches that may only be read ------------------------------------------------------------------


@pytest.fixture
def published(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A cache that somebody else filled; the user's own is empty."""
    content("theirs")
    folder = fresh.rename(tmp_path / "published")
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    monkeypatch.setenv("SOFIE_ROOT_CACHE_READONLY", f":/nowhere:{folder}:~nobody-of-this-name")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    paths = (folder, *folder.rglob("*"))
    infos = {str(path): path.stat() for path in paths}
    return {path: (i.st_mtime_ns, i.st_mode, i.st_size) for path, i in infos.items()}


def test_a_published_entry_is_used_and_left_alone(published: Path, fresh: Path) -> None:  # noqa: F811
    before = snapshot(published)
    assert content("mine") == "theirs"
    assert snapshot(published) == before
    assert not fresh.exists()  # nothing had to be written


def test_a_published_entry_needs_no_cache_of_the_user(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFIE_ROOT_CACHE", "/proc/nowhere")
    assert content("mine") == "theirs"  # without a warning


def test_a_damaged_published_entry_is_not_used(published: Path, fresh: Path) -> None:  # noqa: F811
    os.truncate(published / "name" / "file", 3)
    before = snapshot(published)
    with pytest.warns(RuntimeWarning, match="name in SOFIE_ROOT_CACHE_READONLY is damaged"):
        assert content("mine") == "mine"
    assert content("later") == "mine"
    assert snapshot(published) == before
    assert (fresh / "name" / "file").read_text() == "mine"


# -- where nothing can be written ------------------------------------------------------------------


def test_a_full_disk(
    fresh: Path,  # noqa: F811
    temporary: Path,
) -> None:
    def fill(folder: Path) -> None:
        (folder / "file").write_text("half")
        if folder.parent == fresh:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "file"))

    with pytest.warns(RuntimeWarning, match=r"no space left on device.*temporary folder"):
        assert cache.entry("name", fill, "fills") == temporary / "name"
    assert [p.name for p in fresh.iterdir()] == [".lock"]

    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "file"))

    with pytest.raises(StorageError, match="no space left on device"):
        cache.entry("other", fail, "fills")


def test_a_real_full_disk(tmp_path: Path) -> None:
    """A file system of some kilobytes: neither the compiler nor we have room in it."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k,mode=700", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        for noexec in (False, True):
            if noexec:
                remount = ["mount", "-o", "remount,size=50m,noexec", str(small)]
                subprocess.run(remount, check=True)
            code = f"""
                import headers, warnings
                from sofie_root.runtime.session import open_header
                with warnings.catch_warnings(record=True) as seen:
                    warnings.simplefilter("always")
                    print(open_header(headers.dense("full{noexec}"), jit="compiler")([[1, 2, 3, 4]]).item())
                print(*(str(w.message) for w in seen))
            """
            first, message = run_python(code, SOFIE_ROOT_CACHE=f"{small}/cache").splitlines()
            assert first == "30.0"
            assert ("noexec" if noexec else "no space left on device") in message
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_cache_that_cannot_be_made(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOFIE_ROOT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(
        RuntimeWarning, match=r"file/cache is not used: (file exists|not a directory)"
    ):
        assert content() == "new"
    assert (temporary / "name").is_dir()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOFIE_ROOT_CACHE", "relative")
    monkeypatch.chdir(tmp_path)
    assert cache.cache_dir() == tmp_path / "relative"
    monkeypatch.setenv("SOFIE_ROOT_CACHE", "~/mine")
    assert cache.cache_dir() == Path.home() / "mine"
    monkeypatch.delenv("SOFIE_ROOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.cache_dir() == Path("/somewhere/sofie_root")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    found = cache.cache_dir()
    assert found is not None
    assert found.is_relative_to(Path.home())
    monkeypatch.setenv("HOME", "")
    assert cache.cache_dir() == found


def test_a_user_without_a_home(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    for name in ("SOFIE_ROOT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.warns(RuntimeWarning, match="there is no home folder.*SOFIE_ROOT_CACHE"):
        assert content() == "new"


def test_odd_folders_and_a_current_folder_that_was_removed(tmp_path: Path) -> None:
    code = """
        import os, headers, warnings
        from sofie_root.runtime.session import open_header
        os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
        print(open_header(headers.dense("gone"), jit="compiler")([[1, 2, 3, 4]]).item())
        if os.environ["ODD"]:
            os.environ["SOFIE_ROOT_CACHE"] = "relative"
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                print(open_header(headers.dense("twice"), jit="compiler")([[1, 2, 3, 4]]).item())
            print(*("compiled models cannot be kept: no such file" in str(w.message) for w in seen))
    """
    code = code.replace("import os,", f"import os; os.chdir({str(tmp_path)!r}); import", 1)
    odd = tmp_path / "a \"quoted\" 'n\u00efce'\n$(touch pwned) %s `id` & ; folder"
    for folder in (tmp_path / "new" / "deep", odd):
        run_python(code, SOFIE_ROOT_CACHE=str(folder), ODD="", TMPDIR="/nowhere")
        assert list(folder.glob("compiled-*/*.so"))
    odd.chmod(0o700)
    out = run_python(code, SOFIE_ROOT_CACHE=str(odd), ODD="1", TMPDIR=str(odd))
    assert out == "30.0\n30.0\nTrue\n"
    assert not list(tmp_path.rglob("pwned"))


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse)
    with pytest.raises(StorageError, match=r"no temporary folder can be used: .*no space left"):
        cache.process_folder.__wrapped__()


# -- trimming --------------------------------------------------------------------------------------


def test_the_cache_is_trimmed(tmp_path: Path) -> None:
    for k, (name, size) in enumerate({"old": 300, "b": 200, "new": 400}.items()):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * (size - 100))
        (tmp_path / name / cache.CHECKSUMS).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (k, k))
    (tmp_path / "other").mkdir()  # nothing of ours
    (tmp_path / "other" / "file").write_bytes(b"x" * 5000)
    (tmp_path / "library.so").write_bytes(b"x" * 5000)
    cache.touch(tmp_path / "old")
    assert cache.trim(tmp_path, 1000) == []
    assert cache.trim(tmp_path, 800) == [tmp_path / "b"]
    assert cache.trim(tmp_path, 100) == [tmp_path / "new"]  # old is in use
    assert sorted(p.name for p in tmp_path.iterdir()) == ["library.so", "old", "other"]


def test_scratch_of_killed_processes_is_removed(tmp_path: Path) -> None:
    for name, age in ((".part-old", 10**6), (".part-new", 100)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert cache.trim(tmp_path) == [tmp_path / ".part-old"]
    assert [p.name for p in tmp_path.iterdir()] == [".part-new"]


# -- many at once ----------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from sofie_root.runtime import cache
def make(folder):
    print("making", flush=True)
    sys.stdin.readline()
    (folder / "file").write_text("theirs")
cache.entry("name", make, "writes")
print("made", flush=True)
"""


@pytest.fixture
def holder(fresh: Path) -> Iterator[subprocess.Popen[str]]:  # noqa: F811
    """Another process that makes the entry ``name``, until it is sent a line."""
    repository = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=os.environ | {"SOFIE_ROOT_CACHE": str(fresh), "PYTHONPATH": str(repository)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "making\n"
        yield process
        process.kill()


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    return thread, results


def test_one_process_makes_it_and_the_other_waits(
    holder: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(exclusive, "NOTICE_AFTER", 0.1)
    thread, results = in_thread(lambda: content("mine"))
    thread.join(1)
    assert thread.is_alive()
    assert capfd.readouterr().err == "sofie_root: waiting for another process that writes\n"
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    thread.join(30)
    assert results == ["theirs"]


def test_a_lock_vanishes_with_its_process(
    holder: subprocess.Popen[str],
    fresh: Path,  # noqa: F811
) -> None:
    thread, results = in_thread(lambda: content("mine"))
    holder.send_signal(signal.SIGKILL)
    thread.join(30)
    assert results == ["mine"]
    assert len(list(fresh.glob(".part-*"))) == 1  # what the other left goes after a day


def test_a_process_that_was_stopped_is_not_waited_for_for_ever(
    holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive, "PATIENCE", 0.3)
    holder.send_signal(signal.SIGSTOP)
    assert content("mine") == "mine"
    holder.send_signal(signal.SIGCONT)
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "made\n"  # it finds the entry there, and takes it
    assert content("mine") == "mine"


def test_other_entries_need_not_wait(holder: subprocess.Popen[str]) -> None:
    assert holder.poll() is None
    assert cache.entry("other", write("x"), "writes").name == "other"


@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOTSUP, errno.EIO, None])
def test_a_file_system_without_locks(
    fresh: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    answer: int | None,
) -> None:
    """As NFS: it refuses, or its lock server never answers."""
    release, calls = threading.Event(), []

    def lockf(*_: Any) -> None:
        calls.append(1)
        if answer is None:
            release.wait()
        else:
            raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    monkeypatch.setattr(exclusive, "ANSWER_AFTER", 0.2)
    assert content("mine") == "mine"
    assert cache.entry("other", write("x"), "writes").name == "other"
    assert len(calls) == 1  # and is not asked again
    release.set()


def test_a_lock_file_that_was_removed_is_made_again(fresh: Path) -> None:  # noqa: F811
    content()
    shutil.rmtree(fresh)
    content()
    assert (fresh / ".lock").exists()
    (fresh / ".lock").unlink()
    (fresh / ".lock").symlink_to("/etc/passwd")
    assert cache.entry("other", write("x"), "writes").name == "other"


def test_a_fork_while_a_thread_holds_the_lock(fresh: Path) -> None:  # noqa: F811
    """The thread does not exist in the child, so nobody would ever release its lock there."""
    inside, go_on = threading.Event(), threading.Event()

    def make(folder: Path) -> None:
        (folder / "file").write_text("parent's")
        inside.set()
        go_on.wait(60)

    thread, _ = in_thread(lambda: cache.entry("name", make, "writes"))
    inside.wait(60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exclusive, "PATIENCE", 5.0)
        child = multiprocessing.get_context("fork").Process(target=content, args=("child's",))
        child.start()
        time.sleep(0.2)
        go_on.set()
        child.join(60)
    thread.join(60)
    assert child.exitcode == 0
    assert content() == "parent's"


def test_eight_processes_and_eight_threads_compile_once(
    fresh: Path,  # noqa: F811
    counting_compiler: Path,  # noqa: F811
) -> None:
    code = """
        import threading, headers
        from sofie_root.runtime.session import open_header
        found = []
        def work():
            found.append(open_header(headers.dense("eight"), jit="compiler")([[1, 2, 3, 4]]).item())
        threads = [threading.Thread(target=work) for _ in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        print(found == [30.0] * 8)
    """
    environment = {"SOFIE_ROOT_CACHE": str(fresh), "CXX": os.environ["CXX"]}
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(run_python(code, **environment)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["True\n"] * 8
    assert len(counting_compiler.read_text().splitlines()) == 1
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    assert open_header(headers.dense("eight"), jit="compiler")(X).item() == 30
