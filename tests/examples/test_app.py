"""The page as a script, and as a Space."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import yaml

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_script_is_the_command():
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "app.py"), "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0 and "Example: concepthash serve" in ran.stdout


def test_a_space_serves_what_its_variables_name(monkeypatch):
    spec = importlib.util.spec_from_file_location("space_app", EXAMPLES / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.words_of_space() == ["--host", "0.0.0.0"]
    monkeypatch.setenv("INDEX", "someone/index")
    monkeypatch.setenv("PHOTOS", "photos")
    assert module.words_of_space() == ["someone/index", "--photos", "photos", "--host", "0.0.0.0"]


def test_the_front_matter_of_the_space():
    _, matter, _ = (EXAMPLES / "space" / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(matter)
    assert facts["sdk"] == "gradio" and (EXAMPLES / facts["app_file"]).exists()
    assert len(facts["short_description"]) <= 60, "the Hub takes no more"
    assert (EXAMPLES / "space" / "requirements.txt").read_text() == "concepthash_hf[app]\n"
