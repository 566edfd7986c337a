"""The forecast of the best mixture, against a planted one."""

import itertools
import json
import re

import numpy as np
import pytest

from analysis.forecast import register
from analysis.logs.load import load_sweep
from analysis.mixture import best_share, fit_mixtures, main, predicted_loss, share_of
from analysis.report.sections.forecast import registered_forecast
from core.errors import BadInput
from core.rundir import HELD_BACK
from tests.support.synthetic_sweep import params_of, write_run

SHARES, SIZES = (0.2, 0.4, 0.6, 0.8), (1e4, 3e4)


def planted(share, params):
    """The best share is 0.6 at 10k parameters and moves by 0.05 with each e-fold, as far as the parabola can move."""
    best = 0.6 + 0.05 * np.log(params / 1e4)
    return 3.0 * (params / 1e4) ** -0.1 * np.exp(0.2 * (share - best) ** 2)


def simulated(generator, noise=0.003, seeds=2):
    share, params = (
        np.array(x) for x in zip(*[(w, n) for w in SHARES for n in SIZES for _ in range(seeds)], strict=True)
    )
    return share, params, planted(share, params) * np.exp(noise * generator.normal(size=share.size))


def test_without_noise_the_best_share_of_a_larger_model_is_found():
    fit = fit_mixtures(*simulated(np.random.default_rng(0), noise=0.0))
    for params in (1e4, 3e4):
        assert best_share(fit, params)[0] == pytest.approx(0.6 + 0.05 * np.log(params / 1e4), abs=0.011)
    value, (low, high) = predicted_loss(fit, 0.6, 3e4)
    assert value == pytest.approx(planted(0.6, 3e4), rel=1e-6) and low <= value <= high


def test_intervals_hold_the_truth():
    """Over 200 simulated sweeps, 90% intervals: 190 hold the best share at 60k, 179 the loss of a new run."""
    generator, hits, inside = np.random.default_rng(1), 0, 0
    # a straight move of a, b and c, so that the law is the truth also beyond the sizes
    truth = fit_mixtures(*simulated(generator, noise=0.0))
    share, params, _ = simulated(generator, noise=0.0)
    clean = np.array([predicted_loss(truth, w, n)[0] for w, n in zip(share, params, strict=True)])
    best, target = best_share(truth, 6e4)[0], predicted_loss(truth, 0.6, 6e4)[0]
    for number in range(200):
        loss = clean * np.exp(0.003 * generator.normal(size=clean.size))
        fit = fit_mixtures(share, params, loss, draws=500, seed=number)
        low, high = best_share(fit, 6e4)[1]
        hits += low - 0.005 <= best <= high + 0.005
        low, high = predicted_loss(fit, 0.6, 6e4, seed=number)[1]
        inside += low <= target * np.exp(0.003 * generator.normal()) <= high
    assert 170 <= hits <= 198 and 170 <= inside <= 194, (hits, inside)


def write_mixed(sweep, widths, env=None):
    """Runs of these widths at all shares, two seeds each; returns what the launcher says of each."""
    generator, entries = np.random.default_rng(2), []
    for width, share, seed in itertools.product(widths, SHARES, (0, 1)):
        n, name = params_of(width), f"w{width}-{share}-{seed}"
        loss = planted(share, n) * np.exp(0.001 * generator.normal())
        run = write_run(sweep, width, 1_048_576, seed, loss, name=name, **({"env": env} if env else {}))
        spec = json.loads((run / "spec.json").read_text())
        spec["data"]["mixture"] = f"pysource:code={share:.2f},pysource:docs={1 - share:.2f}"
        (run / "spec.json").write_text(json.dumps(spec))
        entries.append({"run": name, "params": n, "tokens": 1_048_576, "mixture": spec["data"]["mixture"]})
    return entries


def test_the_launcher_puts_it_down_before_the_larger_runs_and_the_report_says_what_came(tmp_path):
    sweep, elsewhere = tmp_path / "mixed", tmp_path / "other"
    write_mixed(sweep, (16, 32))
    held = write_mixed(elsewhere, (48,), {"started": "2100-01-01T00:00:00+00:00"})
    (sweep / HELD_BACK).write_text(json.dumps({"runs": held, "trunks": []}))
    value = register.register(sweep)
    assert [run["share"] for run in value["runs"]] == [share for share in SHARES for _ in (0, 1)]
    low, high = value["best_share_interval"]
    assert low - 0.005 <= 0.6 + 0.05 * np.log(params_of(48) / 1e4) <= high + 0.005
    assert "none of its runs has landed" in registered_forecast(load_sweep(sweep)).sentence
    for run in elsewhere.iterdir():
        run.rename(sweep / run.name)
    found = registered_forecast(load_sweep(sweep))
    assert found.honest and not found.faults
    assert sum(one.inside for one in found.predictions) >= 6
    assert re.search("of the shares tried there, 0.[68]0 has the lowest mean loss", found.sentence)
    with pytest.raises(BadInput, match="has started already"):
        register.register(sweep)


def test_held_back_mixtures_of_two_sizes_or_other_corpora_are_refused(tmp_path):
    sweep = tmp_path / "mixed"
    write_mixed(sweep, (16, 32))
    one = {"run": "a", "params": 10**6, "tokens": 10**6, "mixture": "pysource:code=0.30,pysource:docs=0.70"}
    two = {**one, "run": "b", "mixture": "pysource:code=0.60,pysource:docs=0.40"}
    for other, match in (
        ({**two, "params": 2 * 10**6}, "2 sizes"),
        ({**two, "mixture": "pysource:code=0.60,text:/a=0.40"}, "mixes pysource:code and text:/a"),
    ):
        (sweep / HELD_BACK).write_text(json.dumps({"runs": [one, other], "trunks": []}))
        with pytest.raises(BadInput, match=match):
            register.register(sweep)


def test_the_command_writes_it_down_and_refuses_a_size_that_is_there(tmp_path, capsys):
    write_mixed(tmp_path / "mixed", (16, 32))
    out = tmp_path / "best.json"
    main([str(tmp_path / "mixed"), "--params", "1e5", "--out", str(out)])
    assert "best share of pysource:code at 100k parameters: 0." in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["interval"][0] <= found["best_share"] <= found["interval"][1]
    assert found["first"] == "pysource:code" and found["digest"] and found["date"]
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "mixed"), "--params", "1000"])
    assert caught.value.code == 2
    assert "--params 1000" in capsys.readouterr().err


def test_too_few_runs_and_other_mixtures_are_refused():
    with pytest.raises(BadInput, match="at least 3 shares"):
        fit_mixtures(np.array([0.2, 0.4] * 4), np.array([1e4] * 4 + [2e4] * 4), np.ones(8))
    assert share_of("pysource:code=0.7,text:/a,b=0.3") == ("pysource:code", "text:/a,b", 0.7)
    with pytest.raises(BadInput, match="two corpora"):
        share_of("")
