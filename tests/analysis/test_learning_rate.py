"""Best learning rates: known parabolas, edges, failed runs, the report's section and the rule that is written."""

import json

import numpy as np
import pytest

from analysis.learning_rate import best_rate, families, groups_of, main, sentences
from analysis.logs.load import load_sweep
from analysis.report import command as report
from analysis.report.folder import MADE_FROM
from analysis.report.sections import declared
from experiments.scaling import ScalingRule
from tests.support.synthetic_sweep import run_name, write_run

RATES = (0.001, 0.002, 0.004, 0.008, 0.016)


def write_rates(root, best, parametrization="mup", rates=RATES, seeds=(0,), failed=(), sweep="tune"):
    """Runs whose loss is 2 + 0.1 (log2 rate / best)^2 at each width; `best` is {width: best peak}."""
    for width, top in best.items():
        for rate in rates:
            for seed in seeds:
                loss = 2 + 0.1 * float(np.log2(rate / top)) ** 2 + 0.01 * (seed - np.mean(seeds))
                # The number in the run's name comes from its tokens, so that each rate has a directory of its own.
                count = 2**22 + 8192 * round(1e6 * rate) + (2**30 if parametrization == "mup" else 0)
                name = run_name(width, count, seed)
                folder = write_run(root / sweep, width, 2**22, seed, loss, rows=3, name=name)
                spec = json.loads((folder / "spec.json").read_text())
                spec["optim"] |= {"learning_rate": rate, "cooldown_tokens": 2**19, "weight_decay": 8e-4}
                spec["optim"]["decay"] = "independent" if parametrization == "mup" else "coupled"
                spec["model"] |= {"parametrization": parametrization}
                spec["model"] |= {"base_width": 32, "base_depth": 2, "base_head_width": 16}
                (folder / "spec.json").write_text(json.dumps(spec))
                if (width, rate) in failed:
                    (folder / "result.json").unlink()
                    (folder / "error.txt").write_text("diverged at step 3")
    return root / sweep


def test_the_vertex_of_a_known_parabola_between_grid_points():
    rates = np.array([0.001, 0.003, 0.004, 0.01])
    losses = 2 + 0.3 * np.log(rates / 0.0033) ** 2
    best, loss, bracketed = best_rate(rates, losses)
    assert best == pytest.approx(0.0033, rel=1e-9) and loss == pytest.approx(2.0, abs=1e-12) and bracketed


def test_no_vertex_is_made_up_at_an_edge_or_beside_a_failed_run():
    rates = np.array([1.0, 2.0, 4.0])
    assert best_rate(rates, np.array([3.0, 2.5, 2.2])) == (4.0, 2.2, False)
    assert best_rate(rates, np.array([3.0, 2.5, np.inf])) == (2.0, 2.5, True)
    assert best_rate(rates, np.array([2.0, 2.0, 2.0])) == (1.0, 2.0, False)


def test_groups_are_told_apart_and_means_are_over_seeds(tmp_path):
    write_rates(tmp_path, {32: 0.004, 64: 0.005}, seeds=(0, 1))
    sweep = load_sweep(write_rates(tmp_path, {32: 0.004, 64: 0.002}, "standard"))
    groups = groups_of(sweep)
    found = {(group.parametrization, group.width): group for group in groups}
    assert len(groups) == 4
    assert found["mup", 64].best == pytest.approx(0.005, rel=1e-6)
    assert found["standard", 64].best == pytest.approx(0.002, rel=1e-6)
    assert found["mup", 32].losses[2] == pytest.approx(2.0, abs=1e-9)  # of two seeds, 0.005 either side
    assert [members[0].parametrization for members in families(groups).values()] == ["mup", "standard"]
    assert "moves by a factor 1.25 over 2 times the width" in sentences(groups)[0]
    assert "moves by a factor 2.00" in sentences(groups)[1]


def test_lines_name_the_optimizer_where_a_sweep_has_several(tmp_path):
    folder = write_rates(tmp_path, {32: 0.004, 64: 0.005})
    alone = sentences(groups_of(load_sweep(folder)))
    write_rates(tmp_path / "lion", {32: 0.002, 64: 0.002})
    for run in sorted((tmp_path / "lion" / "tune").iterdir()):
        spec = json.loads((run / "spec.json").read_text())
        spec["optim"]["name"] = "lion"
        (run / "spec.json").write_text(json.dumps(spec))
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"run": f"{run.name}-lion"}))
        run.rename(folder / f"{run.name}-lion")
    lines = sentences(groups_of(load_sweep(folder)))
    assert [line.partition(":")[0] for line in alone] == ["Best peak under mup"]
    assert sorted(line.partition(":")[0] for line in lines) == [
        "Best peak under mup with adamw",
        "Best peak under mup with lion",
    ]


def test_the_report_shows_best_rates_and_fits_no_law_through_them(tmp_path):
    write_rates(tmp_path, {32: 0.004, 64: 0.005}, failed={(64, 0.016)})
    page, said = report.write_report(write_rates(tmp_path, {32: 0.004, 64: 0.016}, "standard"), bootstrap=0)
    result = json.loads((page.parent / "learning_rate.json").read_text())
    assert [move["factor"] for move in result["moves"]] == [pytest.approx(1.25, rel=1e-6), pytest.approx(4.0)]
    assert result["groups"][1]["losses"][-1] is None
    text = (page.parent / "report.md").read_text()
    assert "failed" in text and "edge of the grid" in text and "(learning_rate.svg)" in text
    assert any("differ in learning rate" in sentence for sentence in said)
    assert not (page.parent / "fit.json").exists()
    assert {path.name for path in page.parent.iterdir()} <= {*declared(), "report.html", "report.md", MADE_FROM}


def test_a_written_rule_is_the_one_that_later_sweeps_read(tmp_path, capsys):
    sweep = write_rates(tmp_path, {32: 0.003, 64: 0.004})
    path = tmp_path / "rule.json"
    main([str(sweep), "--rule", str(path), "--out", str(tmp_path / "rates.json")])
    assert "Best peak under mup" in capsys.readouterr().out
    rule = ScalingRule.read(str(path))
    assert rule.parametrization == "mup"
    assert rule.learning_rate_at_base == pytest.approx((0.003 * 0.004) ** 0.5, rel=1e-3)
    assert (rule.base_width, rule.batch_tokens, rule.decay_per_step) == (32, 8192, 8e-4)
    assert json.loads(path.read_text())["source"]["best"][1]["best"] == pytest.approx(0.004, rel=1e-6)


def test_a_standard_rule_is_the_power_law_through_the_sizes(tmp_path):
    sweep = write_rates(tmp_path, {32: 0.006, 64: 0.003}, "standard")
    main([str(sweep), "--rule", str(tmp_path / "rule.json")])
    rule = ScalingRule.read(str(tmp_path / "rule.json"))
    for group in groups_of(load_sweep(sweep)):
        assert rule.learning_rate(group.params) == pytest.approx(group.best, rel=2e-3)


@pytest.mark.parametrize(
    ("best", "parametrization", "words"),
    [
        ({32: 0.1}, "mup", ["width 32", "edge", "0.001 to 0.016"]),
        ({32: 0.004}, "standard", ["at least two sizes"]),
    ],
)
def test_a_rule_that_the_runs_do_not_give_is_refused_in_one_line(
    tmp_path, capsys, best, parametrization, words
):
    sweep = write_rates(tmp_path, best, parametrization)
    line = refused(capsys, [str(sweep), "--rule", str(tmp_path / "rule.json")])
    assert all(word in line for word in words)
    assert not (tmp_path / "rule.json").exists()


def test_bad_input_is_one_line(tmp_path, capsys):
    assert "no-such" in refused(capsys, [str(tmp_path / "no-such")])
    few = write_rates(tmp_path, {32: 0.004}, rates=RATES[:2], sweep="few")
    assert "3 learning rates" in refused(capsys, [str(few)])
    both = write_rates(tmp_path, {32: 0.004}, sweep="both")
    write_rates(tmp_path, {32: 0.004}, "standard", sweep="both")
    assert "2 such families" in refused(capsys, [str(both), "--rule", str(tmp_path / "rule.json")])
    good = write_rates(tmp_path, {32: 0.004}, sweep="good")
    assert "cannot be written" in refused(capsys, [str(good), "--out", "/proc/nowhere/rates.json"])


def refused(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]
