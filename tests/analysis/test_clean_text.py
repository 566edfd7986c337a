"""The report's law without held-out text that has near-duplicates, against a planted one."""

import json

import numpy as np
import pytest

from analysis.logs.load import load_sweep
from analysis.report.sections import clean
from analysis.report.study import study_of
from tests.support.synthetic_sweep import TRUTH, truth_loss, write_sweep

pytestmark = pytest.mark.slow
HARDER = {**TRUTH, "E": 1.2, "alpha": 0.30}  # of the clean text


def with_clean(folder, count: int):
    sweep = write_sweep(folder, noise=0.001)
    generator = np.random.default_rng(0)
    for path in sorted(sweep.glob("*/result.json"))[:count]:
        result = json.loads(path.read_text())
        params, tokens = result["params"]["non_embedding_plus_head"], result["tokens"]
        own = float(truth_loss(params, tokens, HARDER) * np.exp(0.001 * generator.normal()))
        result["evals"] |= {"val/clean-0.5/loss": own, "val/clean-0.9/loss": result["evals"]["val/loss"]}
        path.write_text(json.dumps(result))
    return sweep


def test_the_law_is_fitted_again_to_the_clean_text(tmp_path):
    study = study_of(load_sweep(with_clean(tmp_path, 99)), bootstrap=0)
    section = clean.section(study)
    assert section is not None
    rows = {row[0]: row for row in section.blocks[1].rows}
    assert set(rows) == {"all of it", "Jaccard below 0.5", "Jaccard below 0.9"}
    assert rows["Jaccard below 0.9"][3:] == rows["all of it"][3:] or float(
        rows["Jaccard below 0.9"][2].split()[0]
    ) == pytest.approx(TRUTH["alpha"], abs=0.03)
    assert float(rows["Jaccard below 0.5"][2].split()[0]) == pytest.approx(HARDER["alpha"], abs=0.03)
    assert float(rows["all of it"][2].split()[0]) == pytest.approx(TRUTH["alpha"], abs=0.03)
    assert "Jaccard 0.5 and more" in section.said[0] and "higher" in section.said[0]


def test_a_sweep_without_such_a_loss_or_with_some_runs_that_lack_it_has_no_section(tmp_path):
    for folder, count in (("none", 0), ("some", 7)):
        assert clean.section(study_of(load_sweep(with_clean(tmp_path / folder, count)), bootstrap=0)) is None
