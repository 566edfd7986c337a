"""Text that a run reads more than once is said before it is trained, and kept with its numbers."""

import json

import pytest

from analysis.logs.load import load_sweep
from tests.support.small import cache_folder, launch_command, run_launch, write_corpus

pytestmark = pytest.mark.slow


def test_plan_run_status_result_and_table_give_epochs(tmp_path):
    corpus, cache, runs = write_corpus(tmp_path / "corpus", 60), cache_folder(tmp_path), tmp_path / "runs"
    more = ("--sizes", "1", "--tokens", "16384", "98304", "--no-trunk", "--set", "data.validation_tokens=1024")
    plan, train = (launch_command(corpus, runs, cache, *more, verb=verb) for verb in ("plan", "run"))
    assert "epochs unknown until the corpus is built" in run_launch(plan).stdout
    said = run_launch(train)
    assert said.returncode == 0, said.stderr
    (meta,) = (cache / "tokens").glob("*/meta.json")
    known = json.loads(meta.read_text())["splits"]["train"]["tokens"]
    whole = (known - 1) // 128 * 128
    line = "repeated text: 1 of 2 runs reads its training text more than once"
    assert line in said.stdout
    assert line in run_launch(plan).stdout
    by_tokens = {}
    for path in runs.glob("*/*/result.json"):
        result = json.loads(path.read_text())
        by_tokens[result["tokens"]] = result
        assert json.loads((path.parent / "env.json").read_text())["corpus"]["train_tokens"] == known
    for tokens, result in by_tokens.items():
        assert result["corpus_tokens"] == whole
        assert result["unique_tokens"] == min(tokens, whole)
        assert result["epochs"] == pytest.approx(tokens / whole, abs=1e-4)
    assert by_tokens[98304]["epochs"] > 1 > by_tokens[16384]["epochs"]
    (sweep,) = runs.iterdir()
    rows = json.loads(run_launch([*train[:2], "status", str(sweep), "--json"]).stdout)
    assert sorted(row["epochs"] for row in rows) == sorted(result["epochs"] for result in by_tokens.values())
    columns = load_sweep(sweep).table().columns
    seen = dict(zip(columns["tokens"].tolist(), columns["unique_tokens"].tolist(), strict=True))
    assert seen == {tokens: result["unique_tokens"] for tokens, result in by_tokens.items()}
