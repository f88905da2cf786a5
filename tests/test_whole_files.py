"""Files that are there whole or not at all, and folders with one writer at a time."""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from concepthash_hf import whole_files
from concepthash_hf.whole_files import one_writer, replacing, write_file, write_json

MODULES = str(Path(whole_files.__file__).parent)  # to import this one without all of the package, which is slow


def in_a_process(code: str, *words: object, **kwargs) -> subprocess.Popen:
    """Python code in a process of its own, which says by a line when it is ready."""
    code = f"import sys, time\nsys.path.insert(0, {MODULES!r})\nfrom whole_files import *\n{code}"
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


HOLD = "with one_writer(sys.argv[1]):\n    print('ready', flush=True)\n    time.sleep(60)"


def test_a_file_in_place_of_another(tmp_path):
    write_file(tmp_path / "a.txt", "Käuzchen")
    write_file(tmp_path / "a.txt", "Eule")
    write_json(tmp_path / "b.json", {"a": [1]})
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "Eule"
    assert (tmp_path / "b.json").read_text() == '{\n  "a": [\n    1\n  ]\n}\n'
    assert len(list(tmp_path.iterdir())) == 2


def test_what_fails_on_the_way_changes_nothing(tmp_path):
    write_file(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError, match="no more"), replacing(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise RuntimeError("no more")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_new_files_follow_the_umask(tmp_path):
    code = "import os; os.umask(0o027); write_file(sys.argv[1] + '/a.txt', b'a')"
    assert in_a_process(code, tmp_path).wait(60) == 0
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_no_room_left_says_which_file(tmp_path):
    """The size of files is limited: what writing meets is what a full disk gives, an error without a name."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    write_file(tmp_path / "a.txt", "old")
    process = in_a_process("write_file(sys.argv[1] + '/a.txt', b'a' * 1001)", tmp_path, preexec_fn=limit)
    assert f"OSError: cannot write {tmp_path / 'a.txt'}: File too large" in process.communicate(timeout=60)[1]
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_no_such_folder(tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*nowhere/a.txt: No such file or directory"):
        write_file(tmp_path / "nowhere" / "a.txt", "a")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*file: File exists"), one_writer(tmp_path / "file"):
        pass
    with (
        pytest.raises(OSError, match=r"cannot write .*file/below: Not a directory"),
        one_writer(tmp_path / "file/below"),
    ):
        pass


def test_one_writer_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_files, "_WAIT", 0.1)
    other = in_a_process(HOLD, tmp_path / "new")
    try:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(BlockingIOError, match="another process is writing into .*new: wait until it is done, or"):
            with one_writer(tmp_path / "new"):
                pass
    finally:
        other.kill()
        other.wait()
    with one_writer(tmp_path / "new"):  # a killed one holds nothing
        pass
    assert list((tmp_path / "new").iterdir()) == []


def test_another_thread_is_another_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_files, "_WAIT", 0.1)
    refused = []

    def write() -> None:
        try:
            with one_writer(tmp_path):
                pass
        except BlockingIOError as error:
            refused.append(error)

    with one_writer(tmp_path), one_writer(tmp_path):  # the same thread may enter again
        for _ in range(2):
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
    assert len(refused) == 2
    write()
    assert len(refused) == 2


def test_writers_take_turns(tmp_path):
    """Four processes count up a number in a file, which loses counts as soon as two write at once."""
    code = (
        "from pathlib import Path\n"
        "for _ in range(25):\n"
        "    with one_writer(sys.argv[1]) as folder:\n"
        "        count = int((folder / 'count').read_text()) if (folder / 'count').exists() else 0\n"
        "        write_file(folder / 'count', str(count + 1))\n"
    )
    processes = [in_a_process(code, tmp_path) for _ in range(4)]
    assert [process.communicate(timeout=120)[1] for process in processes] == [""] * 4
    assert (tmp_path / "count").read_text() == "100"
    assert os.listdir(tmp_path) == ["count"]


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    code = (
        "with one_writer(sys.argv[1]) as folder, scratch_folder(folder) as scratch:\n"
        "    (scratch / 'part').touch()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = in_a_process(code, tmp_path)
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    left = list(tmp_path.iterdir())
    assert len(left) == 2 and all(whole_files.is_left_behind(path) for path in left)
    with one_writer(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".writing.lock"]
    assert list(tmp_path.iterdir()) == []
