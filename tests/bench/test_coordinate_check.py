"""Scales of activations over 8 times the width after 10 steps: flat under mup, and not under the standard form."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from bench.coordinate_check import main, markov_text, spreads
from bench.coordinate_figure import main as draw
from tests.support.small import ROOT

pytestmark = pytest.mark.slow


def test_blocks_and_stream_stay_flat_under_mup_and_do_not_under_the_standard_parametrization(tmp_path):
    out = tmp_path / "coordinates.json"
    command = [sys.executable, "-m", "bench.coordinate_check", "--widths", "64", "512", "--seeds", "1"]
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["spreads"]
    for name in ("block 1", "block 2", "stream"):
        assert found["mup"][name]["scale"] < 1.2, found
        assert found["mup"][name]["change"] < 1.3, found
        assert found["standard"][name]["scale"] > 3, found
    assert "stream: standard" in done.stdout


def test_spreads_are_largest_over_smallest():
    rows = [
        {"parametrization": kind, "width": width, "name": "stream", "scale": scale, "change": 2.0}
        for kind, scales in (("standard", (1.0, 8.0)), ("mup", (0.5, 0.4)))
        for width, scale in zip((64, 512), scales, strict=True)
    ]
    found = spreads(rows)
    assert found["standard"]["stream"] == {"scale": 8.0, "change": 1.0}
    assert found["mup"]["stream"]["scale"] == pytest.approx(1.25)


def test_the_text_is_the_same_each_time_and_has_structure():
    first, again = markov_text(2, 64, 64), markov_text(2, 64, 64)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (2, 64, 65) and first.min() >= 0 and first.max() < 64
    pairs = np.zeros((64, 64))
    np.add.at(pairs, (first[..., :-1].ravel(), first[..., 1:].ravel()), 1)
    assert (pairs.max(axis=1) / pairs.sum(axis=1)).mean() > 0.2  # an even chain would show about 0.05


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--widths", "64"], "at least two different ones"),
        (["--widths", "64", "70"], "widths=70: must be a positive multiple of 16"),
        (["--steps", "0"], "steps=0: must be at least 1"),
        (["--learning-rate", "-1"], "learning_rate=-1.0: must be positive"),
        (["--depht", "2"], "--depht"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and words in lines[0]


def test_the_figure_is_drawn_from_the_measurements_and_bad_files_are_one_line(tmp_path, capsys):
    rows = [
        {"parametrization": kind, "width": width, "name": name, "scale": scale, "change": 1.0}
        for kind in ("standard", "mup")
        for name in ("block 1", "logits")
        for width, scale in ((64, 1.0), (512, 3.0))
    ]
    path, figure = tmp_path / "coordinates.json", tmp_path / "figure.svg"
    path.write_text(json.dumps({"rows": rows}))
    draw([str(path), "--out", str(figure)])
    assert b"<svg" in figure.read_bytes()
    for content, words in (
        ({"rows": []}, "has no rows"),
        ({"rows": [{"width": 3}]}, "every row needs"),
        ({"rows": [{**rows[0], "scale": -1}]}, "scale=-1"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(SystemExit) as caught:
            draw([str(path), "--out", str(figure)])
        lines = capsys.readouterr().err.strip().splitlines()
        assert caught.value.code == 2 and len(lines) == 1 and words in lines[0]
    with pytest.raises(SystemExit):
        draw([str(path), "--out", "figure.pdf"])
    assert "must end in .png or .svg" in capsys.readouterr().err
