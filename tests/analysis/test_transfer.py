"""Effective data transferred, against planted sweeps."""

import json

import numpy as np
import pytest

from analysis.logs.groups import groups_of
from analysis.logs.load import load_sweep
from analysis.transfer import Losses, inverse, main, spread, transfer_of
from core.errors import BadInput
from tests.support.synthetic_sweep import params_of, write_run

SIZES = (1e4, 3e4, 1e5)
SCRATCH = tuple(2.0**power for power in range(13, 23))
MORE = tuple(2.0**power for power in range(14, 19))
K, ALPHA, BETA, NOISE = 30.0, 0.4, 0.35, 0.004


def loss_of(params, tokens):
    """A law whose logarithm is a parabola in log D at each size, so that the inverse has no error of form."""
    x = np.log(tokens / 2**17)
    return 3.0 * (params / 1e4) ** -0.08 * np.exp(-0.11 * x + 0.006 * x**2)


def planted(generator, k=K, noise=NOISE, seeds=2):
    """Runs from scratch, and runs that began with weights worth k D^alpha N^beta tokens."""

    def runs(amounts, extra):
        rows = [(n, d, loss_of(n, d + extra(n, d))) for n in SIZES for d in amounts for _ in range(seeds)]
        params, tokens, loss = np.array(rows).T
        return Losses(params, tokens, loss * np.exp(noise * generator.normal(size=loss.size)))

    return runs(SCRATCH, lambda n, d: 0.0), runs(MORE, lambda n, d: k * d**ALPHA * n**BETA)


def test_without_noise_the_planted_law_is_found():
    scratch, later = planted(np.random.default_rng(0), noise=0.0)
    found = transfer_of("base", scratch, later, 0.0, 0.95, draws=3)
    for cell in found.cells:
        assert cell.transferred == pytest.approx(K * cell.tokens**ALPHA * cell.params**BETA, rel=0.02)
    assert found.law["alpha"][0] == pytest.approx(ALPHA, abs=0.01)
    assert found.law["beta"][0] == pytest.approx(BETA, abs=0.01)


def test_intervals_hold_the_truth_and_a_base_worth_nothing_is_told():
    """Over 300 simulated sweeps, 95% intervals; over 300 of a base that is worth nothing, lower ends above 0."""
    generator, inside, cells, false = np.random.default_rng(1), np.zeros(2), [], []
    for number in range(300):
        scratch, later = planted(generator)
        deviation, freedom = spread(scratch, later)
        assert freedom == 45
        found = transfer_of("base", scratch, later, deviation, 0.95, draws=200, seed=number, freedom=freedom)
        for place, (name, truth) in enumerate((("alpha", ALPHA), ("beta", BETA))):
            _, low, high = found.law[name]
            inside[place] += low <= truth <= high
        cells += [
            cell.interval[0] <= K * cell.tokens**ALPHA * cell.params**BETA <= cell.interval[1]
            for cell in found.cells
        ]
        scratch, nothing = planted(generator, k=0.0)
        none = transfer_of(
            "nothing", scratch, nothing, deviation, 0.95, draws=200, seed=number, freedom=freedom
        )
        false += [cell.interval[0] > 0 for cell in none.cells]
    assert (inside >= 0.92 * 300).all(), inside
    assert 0.92 <= np.mean(cells) <= 0.98
    assert np.mean(false) <= 0.05


def test_a_loss_beyond_the_runs_from_scratch_is_not_extrapolated():
    scratch, _ = planted(np.random.default_rng(0), noise=0.0)
    own = scratch.params == 1e4
    losses = np.array([[0.1, 100.0, float(loss_of(1e4, 1e5))]])
    low, high, inside = inverse(scratch.tokens[own], scratch.loss[None, own], losses)[0]
    assert np.isnan(low) and np.isnan(high) and inside == pytest.approx(1e5)
    few = Losses(np.full(3, 1e4), np.array([1e5, 2e5, 4e5]), np.array([3.0, 2.9, 2.8]))
    with pytest.raises(BadInput, match="10k parameters: 3 data sizes from scratch; at least 4"):
        transfer_of("base", few, few, 0.01, 0.95, draws=2)


def write_planted(sweep):
    generator = np.random.default_rng(3)
    for width in (16, 32):
        n = params_of(width)
        for tokens in (2**power for power in range(16, 23)):
            for seed in (0, 1):
                write_run(sweep, width, tokens, seed, loss_of(n, tokens) * np.exp(0.002 * generator.normal()))
        for base, k in ((1_048_576, K), (8192, 0.0)):
            for tokens in (2**power for power in range(17, 21)):
                for seed in (0, 1):
                    loss = loss_of(n, tokens + k * tokens**ALPHA * n**BETA) * np.exp(0.002 * generator.normal())
                    name = f"later-{width}-{base}-{tokens}-{seed}"
                    run = write_run(sweep, width, tokens, seed, loss, name=name)
                    for file, change in (
                        ("spec.json", {"start": "weights", "parent": f"base-{base}"}),
                        ("env.json", {"lineage": [
                            {"run": "base", "objective": "next_token", "tokens": base, "corpus": "docs", "weights": ""}
                        ]}),
                    ):  # fmt: skip
                        path = run / file
                        content = json.loads(path.read_text()) if path.exists() else {}
                        path.write_text(json.dumps({**content, **change}))


def test_the_command_says_what_each_base_gave_and_runs_of_unlike_bases_are_never_pooled(tmp_path, capsys):
    sweep, out = tmp_path / "transfer", tmp_path / "transfer.json"
    write_planted(sweep)
    main([str(sweep), "--draws", "100", "--out", str(out)])
    said = capsys.readouterr().out
    assert "next_token on docs, 1.05M tokens: transferred data is above 0 in 8 of 8 cells" in said
    assert "D_T = k D_F^alpha N^beta with alpha 0." in said
    first, second = json.loads(out.read_text())["bases"]
    assert first["law"]["alpha"]["interval"][0] <= ALPHA <= first["law"]["alpha"]["interval"][1]
    assert (
        "8.19k tokens" in second["base"]
        and not second["law"]
        and "D_T is told from 0 in" in second["why_no_law"]
    )
    groups = groups_of(load_sweep(sweep).usable)
    assert sorted(len(group.runs) for group in groups) == [16, 16, 28]


def test_a_sweep_without_later_stages_is_refused(tmp_path, capsys):
    write_run(tmp_path / "plain", 16, 1_048_576, 0, 3.0)
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "plain")])
    assert caught.value.code == 2
    assert "no finished run has start=weights" in capsys.readouterr().err


def test_the_report_answers_with_it(tmp_path):
    from analysis.report.sections.transfer import section
    from tests.analysis.test_sections import known

    sweep = tmp_path / "transfer"
    write_planted(sweep)
    study = known(sweep)
    found = section(study)
    assert found.answer.startswith(
        "next_token on docs, 1.05M tokens: transferred data is above 0 in 8 of 8 cells"
    )
    rows = found.blocks[2].rows
    assert len(rows) == 16 and all(len(row) == 5 for row in rows)
    assert found.blocks[1].draw() is not None
