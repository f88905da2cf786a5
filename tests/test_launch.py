"""How scripts end."""

import os
import platform
import signal
import subprocess
import sys
import time

import pytest


def script(body: str) -> list[str]:
    code = f"import logging, time\nfrom concepthash_hf.launch import run_script\ndef main():\n{body}\nrun_script(main)"
    return [sys.executable, "-c", code]


def run(body: str) -> subprocess.CompletedProcess:
    return subprocess.run(script(body), capture_output=True, text=True, timeout=120, check=False)


def test_an_error_is_one_message_and_foreign_names_are_quoted():
    ran = run("    logging.warning('a\x1b]0;owned\x07.jpg')\n    raise ValueError('no such \x1b[2Jbird')")
    assert ran.returncode == 1
    assert ran.stderr == "WARNING:root:a\\x1b]0;owned\\x07.jpg\nerror: no such \\x1b[2Jbird\n"


def test_a_wrong_config_is_one_line():
    making = "    from concepthash_hf import ConceptHashConfig\n    ConceptHashConfig(num_bits=%s)"
    assert run(making % "30, num_concepts=4").stderr.startswith("error: num_bits must be a multiple of num_concepts,")
    assert run(making % "'x'").stderr == "error: Field 'num_bits' expected int, got str (value: 'x')\n"


def test_a_fault_of_ours_keeps_its_traceback():
    ran = run("    raise AssertionError('how?')")
    assert ran.returncode == 1 and "Traceback" in ran.stderr and "how?" in ran.stderr


@pytest.mark.parametrize("lines", [1, 10**5])
def test_nobody_reads(lines):
    """As behind `| head`: also what is printed at the very end."""
    reader, writer = os.pipe()
    process = subprocess.Popen(script(f"    print('line\\n' * {lines})"), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    os.close(reader)
    _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed) == (141, b"")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_no_traceback(number, status):
    process = subprocess.Popen(
        script("    print('ready', flush=True)\n    time.sleep(60)"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    os.kill(process.pid, number)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == status
    assert printed == f"stopped by {number.name}: there is nothing yet that could be kept\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are not bound to cores here")
@pytest.mark.parametrize(
    ("said", "launched", "threads"),
    [(None, False, 1), ("3", False, 3), ("3", True, 3)],
    ids=["bound", "said", "said to the launcher"],
)
def test_threads_are_those_that_were_given(said, launched, threads):
    """A process that is bound to a core computes on that one, whatever else the machine has."""
    variables = {"OMP_NUM_THREADS": said, "ACCELERATE_MIXED_PRECISION": "no" if launched else None}
    others = {name: value for name, value in os.environ.items() if name not in variables}
    code = """
import os, torch
from concepthash_hf.launch import use_own_cores
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 7)))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
use_own_cores()
print(torch.get_num_threads())
"""
    environment = others | {name: value for name, value in variables.items() if value is not None}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(ran.stdout) == threads


def test_the_launchers_single_thread_is_nobodys_wish():
    """`accelerate launch` sets it where nobody has said anything."""
    code = """
import torch
from concepthash_hf.launch import cores, use_own_cores
assert torch.get_num_threads() == 1
use_own_cores()
assert torch.get_num_threads() == cores()
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")
def test_freed_memory_is_used_again():
    """Large tensors lie where freed memory is kept, and find it again, unless somebody has told glibc otherwise.

    How much plain glibc gives back is left to chance: a small thing that lies behind what was freed keeps all of it.
    """
    code = """
import ctypes, resource, sys, torch
from concepthash_hf.launch import keep_freed_memory

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks".split()]
    _fields_ += [(name, ctypes.c_int) for name in "uordblks fordblks keepcost".split()]

mallinfo = ctypes.CDLL(None).mallinfo
mallinfo.restype = Mallinfo

def pages(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        [torch.ones(4_000_000) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "kept" in sys.argv:
    keep_freed_memory()
mapped = mallinfo().hblks
large = torch.ones(8_000_000)
mapped = mallinfo().hblks - mapped
del large
pages(3)
print(mapped, pages(10))
"""

    def mapped_and_pages(*words: str, **told: str) -> tuple[int, int]:
        """Whether a tensor of 32 MB gets a map of its own, and the fresh pages of ten rounds of four tensors."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        command = [sys.executable, "-c", code, *words]
        result = subprocess.run(command, env=others | told, capture_output=True, text=True, check=True)
        mapped, pages = map(int, result.stdout.split())
        return mapped, pages

    kept, plain = mapped_and_pages("kept"), mapped_and_pages()
    told = mapped_and_pages("kept", MALLOC_MMAP_THRESHOLD_="1000000")
    assert (kept[0], plain[0], told[0]) == (0, 1, 1)
    assert 5 * kept[1] < told[1]
