"""How scripts end."""

import os
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


def test_a_fault_of_ours_keeps_its_traceback():
    ran = run("    raise AssertionError('how?')")
    assert ran.returncode == 1 and "Traceback" in ran.stderr and "how?" in ran.stderr


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
