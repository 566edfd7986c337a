"""Compiled programs are found again under another name of the folder that they are kept in."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from data.config import DataConfig
from files import write_json
from model.config import ModelConfig
from tests.small import ROOT, write_corpus
from training.config import RunSpec, to_json


def test_a_second_cache_folder_with_a_link_to_the_first_ones_programs_compiles_nothing(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=60)
    spec = RunSpec(
        model=ModelConfig(width=16, depth=1, heads=1, kv_heads=1),
        data=DataConfig(corpus=f"text:{corpus}", sequence_length=32, validation_tokens=1024),
        tokens=4 * 256,
        batch_tokens=256,
    )
    programs: list[set[Path]] = []
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    (second / "xla").symlink_to(first / "xla")
    for cache in (first, second):
        directory = tmp_path / spec.run_id
        write_json(directory / "spec.json", to_json(spec))
        command = [sys.executable, "-m", "training.run", str(directory), "--cache", str(cache)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads((directory / "result.json").read_text())["steps"] == 4
        programs.append({path for path in (first / "xla").rglob("*-cache")})
        shutil.rmtree(directory)
    assert programs[0]
    assert programs[0] == programs[1]
