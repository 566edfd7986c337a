"""An objective is one new file: its batches are read; it trains, resumes to the same bits and packs."""

import pytest

from core.codec import from_json
from tests.support.dropped import assert_trains_resumes_and_packs, call, small_run, train_everywhere, write_copy
from training.spec import RunSpec

pytestmark = pytest.mark.slow

# Batches are a tree: tokens, and how much each target counts.
SECOND_HALF = '''
"""Predict the next token in the second half of each sequence; the first half is context."""

import jax.numpy as jnp
import numpy as np

from training.objectives import next_token


class Reader:
    def __init__(self, text):
        self.text = text

    def from_token(self, tokens):
        for tokens_BS in self.text.from_token(tokens):
            weights_BT = np.ones((tokens_BS.shape[0], tokens_BS.shape[1] - 1), np.float32)
            weights_BT[:, : weights_BT.shape[1] // 2] = 0
            yield {"tokens": tokens_BS, "weights": weights_BT}


def reader(*arguments):
    return Reader(next_token.reader(*arguments))


def hyperparameters(optim):
    return {}


def loss(config, params, batch, hyper):
    nats_BT = next_token.held_out_nats(config, params, batch["tokens"])
    mean = jnp.sum(nats_BT * batch["weights"]) / jnp.sum(batch["weights"])
    return mean, {"loss": mean}


held_out_nats = next_token.held_out_nats
'''

REFUSED = """
import json
from training.spec import RunSpec
try:
    RunSpec(objective="nothing")
except ValueError as error:
    print(json.dumps(str(error)))
"""


def test_it_trains_resumes_to_the_same_bits_packs_and_an_unknown_one_is_refused(tmp_path):
    copy = write_copy(tmp_path, "training/objectives/second_half.py", SECOND_HALF)
    optim = {"learning_rate": 1e-2, "warmup_tokens": 1024}
    numbers = train_everywhere(copy, objective="second_half", optim=optim)
    assert_trains_resumes_and_packs(numbers)
    in_microbatches = {**optim, "microbatch_tokens": 128}
    in_parts = train_everywhere(copy, ("whole",), objective="second_half", optim=in_microbatches)
    (whole,), (parts,) = numbers["whole"]["rows"], in_parts["whole"]["rows"]
    assert abs(whole[0][0] - parts[0][0]) < 1e-5
    assert numbers["whole"]["run"] != from_json(RunSpec, small_run(copy, optim=optim)).run_id
    assert call(copy, REFUSED) == (
        "objective='nothing': must be one of masked, next_token, prefix, second_half, span"
    )
