"""What the controls leave, against the processors of the library transformers, in an environment that has it."""

import json
import os
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from model.decode.controls import Controls
from model.decode.draw import penalized, warped

PYTHON = os.environ.get("HF_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="HF_PYTHON names no Python with transformers and torch")

CASES = [
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 1000},
    {"top_p": 0.05},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"min_p": 0.02},
    {"min_p": 0.3},
    {"min_p": 1.0},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6},
    {"repetition_penalty": 1.3, "temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.03},
    {"temperature": 1.5, "top_p": 0.7, "min_p": 0.1},
]

THEIRS = """
import json, sys
import numpy as np, torch
from transformers.generation import logits_process as p
folder, cases = sys.argv[1], json.loads(sys.argv[2])
logits, tokens = torch.tensor(np.load(folder + "/logits.npy")), torch.tensor(np.load(folder + "/tokens.npy"))
for number, case in enumerate(cases):
    steps = []
    for name, make in (  # in the order of generation/utils.py
        ("repetition_penalty", p.RepetitionPenaltyLogitsProcessor), ("temperature", p.TemperatureLogitsWarper),
        ("top_k", p.TopKLogitsWarper), ("top_p", p.TopPLogitsWarper), ("min_p", p.MinPLogitsWarper),
    ):
        if name in case:
            steps.append(make(case[name]))
    np.save(f"{folder}/{number}.npy", p.LogitsProcessorList(steps)(tokens, logits.clone()).numpy())
"""


def test_the_same_tokens_are_left_with_the_same_scores(tmp_path):
    generator = np.random.default_rng(0)
    logits_BV = generator.normal(0, 3, (512, 300)).astype(np.float32)
    tokens_BT = generator.integers(0, 300, (512, 20))
    np.save(tmp_path / "logits.npy", logits_BV)
    np.save(tmp_path / "tokens.npy", tokens_BT)
    subprocess.run([PYTHON, "-c", THEIRS, str(tmp_path), json.dumps(CASES)], check=True, timeout=300)
    counts_BV = np.stack([np.bincount(row, minlength=300) for row in tokens_BT])
    differing = []
    for number, case in enumerate(CASES):
        controls = Controls(**case)
        scores_BV = penalized(jnp.asarray(logits_BV), counts_BV, counts_BV > 0, controls.used, controls.values)
        ours_BV = np.asarray(warped(scores_BV, controls.used, controls.values))
        theirs_BV = np.load(tmp_path / f"{number}.npy")
        left_BV = np.isfinite(ours_BV)
        differing.append(int((left_BV != np.isfinite(theirs_BV)).sum()))
        both_BV = left_BV & np.isfinite(theirs_BV)
        assert both_BV.any(axis=-1).all()
        np.testing.assert_allclose(ours_BV[both_BV], theirs_BV[both_BV], rtol=1e-5)
    # A sum of probabilities within a last bit of the limit may fall on either side: of 2.3 million tokens a few.
    assert sum(differing) <= 3, dict(zip(map(str, CASES), differing, strict=True))
