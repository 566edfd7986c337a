"""Beside transformers itself, which a side environment holds: HF_PYTHON names its Python (`make test-exchange`)."""

import dataclasses
import json
import os
import subprocess

import jax
import ml_dtypes
import numpy as np
import pytest

from data import tokenizers
from data.config import DataConfig
from model.exchange import huggingface
from model.transformer import Transformer
from tests.support.exchange import NETWORKS, exported, perturbed
from tests.support.small import ROOT
from training.load import Trained
from training.processes.mesh import choose_mesh
from training.spec import RunSpec

PYTHON = os.environ.get("HF_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="HF_PYTHON names no Python with torch, transformers, peft and lm-eval"
    ),
]
CONTEXT = 200
NEW_TOKENS = 64
ATOL = 1e-4
# (network, tokenizer, dtype of the file): five networks, every tokenizer, and bfloat16.
CASES = {
    "0-tied": ("tied, grouped queries", "byte", "float32"),
    "1-untied": ("untied, wide heads, one key head", "bpe:290", "float32"),
    "2-llama": ("llama", "char", "float32"),
    "3-mup": ("mup", "word:40", "float32"),
    "4-mup-llama": ("mup, llama", "byte", "float32"),
    "5-bfloat16": ("tied, grouped queries", "bpe:290", "bfloat16"),
}
CHOICES = [" blue", " a curve", " 1"]  # the harness moves blanks at a question's end to its answers
PROMPTS = ["def main(", "unlike 1 text: Ā 日本 \U0001f600\n\n\t", "a", "the curve of the loss " * 6]


def inputs(vocabulary):
    """Unlike any text: random ids, one id over and over, a short period, and the longest context of each."""
    draw = np.random.default_rng(5)
    rows = [
        draw.integers(0, vocabulary, CONTEXT),
        np.full(CONTEXT, vocabulary - 1),
        np.resize(draw.integers(0, vocabulary, 7), CONTEXT),
        np.arange(CONTEXT) % vocabulary,
    ]
    return np.stack(rows).astype(np.int32)


def trained(model):
    """The model behind an export as `training.load.load` gives it."""
    params = model.params
    spec = RunSpec(
        model=model.config,
        data=DataConfig(tokenizer=model.tokenizer, sequence_length=CONTEXT),
        batch_tokens=20 * CONTEXT,
        tokens=20 * CONTEXT,
    )
    return Trained(spec, params, tokenizers.load(model.tokenizer, model.tokenizer_json), choose_mesh("", spec))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Every case as (ours, theirs), by name, and what the side environment said of itself."""
    root = tmp_path_factory.mktemp("parity")
    ours = {}
    for name, (network, kind, dtype) in CASES.items():
        config = dataclasses.replace(NETWORKS[network], vocabulary=300)
        params = perturbed(config, seed=len(ours))
        if dtype == "bfloat16":  # what the file holds
            params = jax.tree.map(lambda leaf: leaf.astype(ml_dtypes.bfloat16).astype(np.float32), params)
        model = exported(config, kind, CONTEXT, params)
        (root / name / "model").mkdir(parents=True)
        huggingface.write(model, root / name / "model", dtype)
        np.savez(root / name / "ask.npz", tokens=inputs(config.vocabulary), prompts=np.array(PROMPTS))
        ours[name] = model
    tasks = root / "0-tied" / "tasks"
    tasks.mkdir()
    questions = [{"question": f"q{n} is", "choices": CHOICES, "answer": 0} for n in range(6)]
    (tasks / "choose.json").write_text("\n".join(map(json.dumps, questions)) + "\n")
    (tasks / "choose.yaml").write_text(
        "task: choose\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        f"    test: {tasks / 'choose.json'}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\n"
        "doc_to_choice: choices\ndoc_to_target: answer\ntarget_delimiter: ''\n"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "support" / "huggingface_side.py", root],
        env={**os.environ, **offline, "PYTHONPATH": "", "HF_HOME": str(root / "hub")},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = {name: np.load(root / name / "answer.npz", allow_pickle=False) for name in CASES}
    told = json.loads((root / "told.json").read_text())
    print({key: told[key] for key in ("torch", "transformers")})
    return ours, theirs, told


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers_on_text_unlike_any_that_was_trained_on(compared, name):
    ours, theirs, _ = compared
    said = json.loads(str(theirs[name]["said"]))
    assert not said["wrong"], "keys that are missing or not expected"
    assert said["class"] == ("LlamaForCausalLM" if "llama" in CASES[name][0] else "Qwen3ForCausalLM")
    model = ours[name]
    tokens = inputs(model.config.vocabulary)
    own = np.asarray(jax.jit(lambda params: Transformer(model.config, params)(tokens))(model.params))
    other = theirs[name]["logits"]
    difference = np.abs(own - other).max()
    print(f"{name}: largest difference {difference:.2g}, largest logit {np.abs(own).max():.3g}")
    assert difference < ATOL and np.abs(own).max() > 2
    np.testing.assert_array_equal(own.argmax(-1), other.argmax(-1))


@pytest.mark.parametrize("name", CASES)
def test_the_same_prompt_gives_the_same_tokens_and_the_same_greedy_text(compared, name):
    ours, theirs, _ = compared
    said, model = json.loads(str(theirs[name]["said"])), trained(ours[name])
    assert said["ids"] == [model.tokens(prompt).tolist() for prompt in PROMPTS]
    end = model.tokenizer.separator
    written = model.sample(PROMPTS, temperature=0, max_tokens=NEW_TOKENS)
    for own, ids, text in zip(written, said["generated"], said["texts"], strict=True):
        tokens = own.generated.tokens.tolist()
        if end in tokens:  # where ours stops; transformers was told not to
            tokens = tokens[: tokens.index(end)]
        assert tokens == ids[: len(tokens)] and len(ids) == NEW_TOKENS
        assert text.startswith(model.tokenizer.decode(tokens).rstrip("\ufffd"))


def test_peft_adapts_it(compared):
    _, _, told = compared
    assert told["adapted"]["trained"] > 0 and told["adapted"]["difference"] == 0


def test_the_harness_of_others_reads_it_and_gives_our_log_likelihoods(compared):
    ours, _, told = compared
    model = trained(ours["0-tied"])
    for question, scores in zip(told["harness"]["questions"], told["harness"]["logprobs"], strict=True):
        for choice, theirs in zip(CHOICES, scores, strict=True):
            prompt, both = model.tokens(question), model.logprobs(question + choice)
            assert both[len(prompt) - 1 :].sum() == pytest.approx(theirs, abs=1e-3)
