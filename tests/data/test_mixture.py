"""A mixture of corpora: its form, the order of windows, whole passes, and a run on one."""

import dataclasses
import json

import numpy as np
import pytest

from core.codec import to_json
from core.errors import BadInput
from core.files import write_json
from core.rundir import RunDirectory
from data.cache import open_or_build, train_tokens
from data.config import DataConfig
from data.loader import TrainLoader
from data.mixture import epochs, fresh_tokens, parse_mixture
from data.near_duplicates import THRESHOLDS
from model.config import ModelConfig
from tests.support.small import cache_folder, write_corpus
from training.execute import execute
from training.execution import Execution
from training.spec import OptimConfig, RunSpec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pysource:code", ["must be CORPUS=SHARE"]),
        ("pysource:code=0.7,pysource:docs=0.2", ["add up to 0.90"]),
        ("pysource:code=0.7,pysource:prose=0.3", ["domain of pysource", "all, code, docs"]),
        ("pysource:code=0.5,pysource:code=0.5", ["named twice"]),
        ("pysource:code=0.333,pysource:docs=0.667", ["whole percents"]),
        ("novels=0.5,pysource=0.5", ["the corpus must be"]),
        ("pysource=1.0", ["must be CORPUS=SHARE"]),
    ],
)
def test_bad_mixtures_are_one_line(text, words):
    with pytest.raises(BadInput) as caught:
        DataConfig(mixture=text)
    assert all(word in str(caught.value) for word in ["data.mixture=", *words])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"skills": "copying@0.1"}, "skills"),
        ({"unique_tokens": 4096}, "unique"),
        ({"tokenizer": "bpe:512"}, "token"),
    ],
)
def test_what_does_not_go_with_a_mixture_is_refused(changes, key):
    with pytest.raises(BadInput, match=f"data.{key}"):
        DataConfig(mixture="pysource:code=0.5,pysource:docs=0.5", **changes)


def test_names_shares_and_passes():
    parts = parse_mixture("pysource:code=0.7,text:/a/b,c=0.3")
    assert [(part.name, part.percent, part.label) for part in parts] == [
        ("pysource:code", 70, "pysource:code"),
        ("text:/a/b,c", 30, "text:_a_b,c"),
    ]
    assert fresh_tokens(parts, [700, 60]) == 200
    assert epochs("pysource:code=0.7,text:/a/b,c=0.3", 400, [700, 60]) == {
        "pysource:code": 0.4,
        "text:/a/b,c": 2.0,
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two folders that share no byte of their middles: one of small letters, one of capitals."""
    folder = tmp_path_factory.mktemp("mixture")
    small = write_corpus(folder / "small", documents=120)
    large = write_corpus(folder / "large", documents=120, seed=1)
    for path in large.glob("*.txt"):
        path.write_text(path.read_text().upper())
    data = DataConfig(corpus=f"text:{small}", sequence_length=32, validation_tokens=1024)
    return dataclasses.replace(data, mixture=f"text:{small}=0.7,text:{large}=0.3"), cache_folder(folder)


def test_windows_come_in_their_shares_from_any_position_at_once(place):
    data, root = place
    cache = open_or_build(data, root, progress=False)
    loader = TrainLoader(cache, data, batch_tokens=10 * 32, seed=3, prefetch=False)
    batches = loader.from_token(0)
    windows = np.concatenate([next(batches) for _ in range(20)])
    capitals = ((windows >= 65) & (windows <= 90)).sum(axis=1) > 0
    assert capitals.reshape(2, 100).sum(axis=1).tolist() == [30, 30]
    later = next(loader.from_token(13 * 10 * 32))
    np.testing.assert_array_equal(later, windows[130:140])
    # Each corpus alone has the same windows in the same order.
    alone = dataclasses.replace(data, mixture="")
    own = TrainLoader(
        open_or_build(alone, root, progress=False), alone, batch_tokens=10 * 32, seed=3, prefetch=False
    ).from_token(0)
    np.testing.assert_array_equal(np.concatenate([next(own) for _ in range(14)]), windows[~capitals])


def test_what_it_reads_is_told_apart_from_other_shares(place):
    data, root = place
    other = dataclasses.replace(data, mixture=data.mixture.replace("0.7", "0.6").replace("0.3", "0.4"))
    first, second = (open_or_build(one, root, progress=False) for one in (data, other))
    assert len({first.fingerprint, second.fingerprint, first.mixture[0].fingerprint}) == 3
    assert train_tokens(data, root) == first.fresh_tokens
    assert (
        first.mixture[0].fingerprint
        == open_or_build(dataclasses.replace(data, mixture=""), root, progress=False).fingerprint
    )


class StopAfter:
    """Asks for a stop after so many steps; never at 0."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


@pytest.mark.slow
def test_a_run_has_a_loss_for_each_corpus_and_resumes_to_the_last_bit(place, tmp_path):
    data, root = place
    spec = RunSpec(
        model=ModelConfig(width=16, depth=1, heads=1, kv_heads=1, scan=False),
        data=data,
        optim=OptimConfig(learning_rate=1e-2),
        tokens=40 * 256,
        batch_tokens=256,
    )
    results = []
    for name, stops in (("whole", ()), ("resumed", (9,))):
        path = tmp_path / name / spec.run_id
        write_json(RunDirectory(path).spec, to_json(spec))
        for steps in (*stops, 0):
            (outcome,) = execute([path], Execution(cache_root=root, stop_requested=StopAfter(steps))).values()
            assert outcome.status == (75 if steps else 0), outcome
        results.append(json.loads(RunDirectory(path).result.read_text()))
    whole, resumed = results
    assert (whole["attempts"], resumed["attempts"]) == (1, 2)
    assert whole["evals"] == resumed["evals"]
    labels = [part.label for part in parse_mixture(data.mixture)]
    small, large = (whole["evals"][f"val/{label}/loss"] for label in labels)
    assert small == whole["evals"]["val/loss"] != large  # the held-out corpus is the first of the mixture
    assert whole["epochs_by_corpus"].keys() == {part.name for part in parse_mixture(data.mixture)}
    assert whole["epochs"] == pytest.approx(max(whole["epochs_by_corpus"].values()), rel=0.02)
    assert not any(f"clean-{THRESHOLDS[0]}" in name for name in whole["evals"])


def test_the_default_names_no_other_run():
    assert RunSpec(data=DataConfig(mixture="")).run_id == RunSpec().run_id
