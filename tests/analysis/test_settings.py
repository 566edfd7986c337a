"""What a sweep varied is answered: which value is best, by how much, with intervals that cover, for any field."""

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.stats

from analysis.logs.load import load_sweep
from analysis.logs.short_names import short_names, short_values
from analysis.report.command import write_report
from analysis.settings.answers import answers_of
from analysis.settings.command import main as command
from analysis.settings.effects import of_logs
from analysis.settings.optimum import optima, trend
from core.errors import BadInput
from experiments.command import settings
from experiments.scaling import ScalingRule
from experiments.spec import Sweep
from tests.support import trained_by_law

WIDTHS = (16, 32, 48)


def simulated(generator, cells, values, seeds, truth_V, paired=True, noise=0.004):
    """Log losses (C, V, S) with a cell's level, a seed's luck that all values share, and noise of each run."""
    logs = generator.normal(0.8, 0.1, (cells, 1, 1)) + np.asarray(truth_V)[None, :, None]
    logs = logs + generator.normal(0, noise, (cells, values, seeds))
    return logs + generator.normal(0, 3 * noise, (cells, 1, seeds)) if paired else logs


@pytest.mark.parametrize(
    ("cells", "values", "seeds", "pooling"),
    [(1, 2, 8, 0), (3, 2, 3, 1), (1, 2, 3, 2), (3, 3, 3, 1), (3, 4, 2, 2)],
)
def test_intervals_of_paired_seeds_cover_the_truth_in_95_percent(cells, values, seeds, pooling):
    """2,000 simulated sweeps: of one pair by itself, and of all pairs at once; 95 plus or minus 1.5%."""
    generator, truth = np.random.default_rng(3), np.linspace(0, 0.01, values)
    single = together = 0
    for _ in range(2000):
        found = of_logs(simulated(generator, cells, values, seeds, truth), list(map(str, range(values))))
        assert (found.paired, found.pooling) == (True, pooling)
        low, high = found.difference("0", str(values - 1), pairs=False).interval
        single += low <= truth[0] - truth[-1] <= high
        pairs = [(one, two) for one in range(values) for two in range(one)]
        ends = [found.difference(str(one), str(two)).interval for one, two in pairs]
        together += all(
            low <= truth[one] - truth[two] <= high for (one, two), (low, high) in zip(pairs, ends, strict=True)
        )
    assert single / 2000 == pytest.approx(0.95, abs=0.015)
    assert together / 2000 == pytest.approx(0.95, abs=0.02)


def test_one_pair_of_paired_seeds_is_the_t_test_of_the_textbook():
    logs = simulated(np.random.default_rng(0), 1, 2, 7, (0, 0.01))
    known = scipy.stats.ttest_rel(logs[0, 0], logs[0, 1]).confidence_interval(0.95)
    assert of_logs(logs, "ab").difference("a", "b").interval == pytest.approx((known.low, known.high))


def test_seeds_that_are_not_shared_are_not_paired():
    logs = np.full((1, 2, 14), np.nan)
    drawn = simulated(np.random.default_rng(0), 1, 2, 7, (0, 0.01), paired=False)[0]
    logs[0, 0, :7], logs[0, 1, 7:] = drawn
    found = of_logs(logs, "ab")
    known = scipy.stats.ttest_ind(*drawn, equal_var=False).confidence_interval(0.95)
    assert not found.paired
    assert found.difference("a", "b").interval == pytest.approx((known.low, known.high))


def test_one_seed_has_no_interval():
    found = of_logs(simulated(np.random.default_rng(0), 3, 4, 1, (0, 1, 2, 3)), "abcd")
    assert found.difference("a", "b").interval is None
    assert found.deviation() is None


def test_the_interpolated_best_and_its_trend_cover_the_truth():
    """600 sweeps of 3 sizes, 5 values and 3 seeds; over 1,500 of them 94% and 94%."""
    generator, x = np.random.default_rng(1), np.geomspace(0.03, 3, 5)
    sizes = np.array([1e4, 4e4, 2e5])
    truth = 0.3 * (sizes / 4e4) ** 0.15
    hits, trends = [], []
    for _ in range(600):
        level = np.array([0.01 * np.log(x / best) ** 2 for best in truth])[:, :, None]
        logs = level + generator.normal(0, 0.02, (3, 1, 3)) + generator.normal(0, 0.003, (3, 5, 3))
        effects = of_logs(logs, list(map(str, x)))
        found = optima(np.tile(x, (3, 1)), effects)
        hits += [
            one.interval[0] <= best <= one.interval[1] for one, best in zip(found, truth, strict=True) if one
        ]
        moved = trend(sizes, found, effects.deviation()[1])
        trends += [moved.interval[0] <= 0.15 <= moved.interval[1]] if moved else []
    assert len(trends) > 590
    assert np.mean(hits) == pytest.approx(0.95, abs=0.025)
    assert np.mean(trends) == pytest.approx(0.95, abs=0.03)


def test_a_parabola_without_noise_gives_its_vertex():
    x = np.geomspace(0.1, 10, 5)
    logs = (0.5 + 0.02 * np.log(x / 0.7) ** 2)[None, :, None]
    (found,) = optima(x[None], of_logs(logs, list(map(str, x))))
    assert found.value == pytest.approx(0.7)
    assert found.interval is None


# --- whole sweeps


def swept(tmp_path, monkeypatch, runs, effect, noise=0.002):
    """A trained sweep whose log loss is the law's plus effect(spec)."""
    law = trained_by_law.loss_of

    def loss_of(spec, tokens, noise=0.0):
        shared = np.random.default_rng(spec.seed + spec.model.width).normal()
        return law(dataclasses.replace(spec, optim=runs[0].optim, seed=0), tokens) * math.exp(
            effect(spec) + 0.01 * shared + math.log(law(spec, tokens, noise) / law(spec, tokens))
        )

    monkeypatch.setattr(trained_by_law, "loss_of", loss_of)
    return trained_by_law.write_runs(tmp_path / "sweep", runs, noise=noise)


def decays(values=(0.03, 0.1, 0.3, 1.0, 3.0), seeds=3, widths=WIDTHS):
    rules = [ScalingRule(weight_decay=value) for value in values]
    return [
        rule.run(0, 131_072, seed, model=rule.shape(width, 2))
        for rule in rules
        for width in widths
        for seed in range(seeds)
    ]


def valley(best):
    return lambda spec: 0.01 * math.log(spec.optim.weight_decay / best) ** 2


@pytest.mark.slow
def test_a_number_that_is_best_inside_the_grid(tmp_path, monkeypatch):
    (found,) = answers_of(load_sweep(swept(tmp_path, monkeypatch, decays(), valley(0.3))))
    assert found.setting.values == ("0.03", "0.1", "0.3", "1", "3")
    assert found.verdict.sentence.startswith("optim.weight_decay 0.3 is best at all three sizes: it gains ")
    assert not found.verdict.warnings
    truth = -math.expm1(-0.01 * math.log(1 / 0.3) ** 2)
    low, high = found.effects.difference("0.3", "1").gain
    assert low < truth < high < 3 * truth
    assert all(one.value == pytest.approx(0.3, rel=0.25) for one in found.optima)
    assert "not seen to move with size" in found.optimum_sentence


def test_a_best_at_the_edge_of_the_grid_is_warned_of(tmp_path, monkeypatch):
    (found,) = answers_of(load_sweep(swept(tmp_path, monkeypatch, decays((0.1, 0.3, 1.0)), valley(5.0))))
    assert any(
        "the largest value that was tried: the grid does not hold" in one for one in found.verdict.warnings
    )


def test_a_best_that_depends_on_size_is_said(tmp_path, monkeypatch):
    def effect(spec):
        return 0.02 * math.log(spec.optim.weight_decay) * (1 if spec.model.width < 40 else -1)

    (found,) = answers_of(load_sweep(swept(tmp_path, monkeypatch, decays((0.1, 1.0)), effect)))
    assert found.verdict.kind == "depends"
    assert found.verdict.sentence.startswith("The best optim.weight_decay depends on size: ")


def test_no_difference_is_said_with_its_bound(tmp_path, monkeypatch):
    (found,) = answers_of(load_sweep(swept(tmp_path, monkeypatch, decays((0.1, 1.0)), lambda spec: 0.0)))
    assert found.verdict.sentence.startswith("No difference in loss is seen between optim.weight_decay ")
    assert "at most 0." in found.verdict.sentence


def test_one_seed_gets_no_interval_in_words(tmp_path, monkeypatch):
    (found,) = answers_of(load_sweep(swept(tmp_path, monkeypatch, decays(seeds=1), valley(0.3))))
    assert "one seed, so no interval can be given" in found.verdict.sentence


@pytest.mark.parametrize(
    "changed",
    [
        "model.activation=gelu", "model.qk_norm=false", "data.sequence_length=64", "optim.beta2=0.99",
        "data.tokenizer=bpe:512 model.vocabulary=512", "model.tied=false",
        "optim.schedule=cosine optim.cooldown_tokens=0",
    ],
)  # fmt: skip
def test_any_field_is_a_setting_with_nothing_written_for_it(changed, tmp_path, monkeypatch):
    runs = decays((0.1,))
    other = list(Sweep(runs).with_settings(settings(changed.split())))
    names = {run.run_id for run in other}
    folder = swept(
        tmp_path, monkeypatch, [*runs, *other], lambda spec: -0.02 if spec.run_id in names else 0.0, noise=0.001
    )
    found = answers_of(load_sweep(folder))
    key = changed.partition("=")[0]
    assert [one.setting.key for one in found] == [key]
    assert len(found[0].matching.cells) == 3
    if "tokenizer" in key:
        assert found[0].metric == "val/bits_per_byte"
    else:
        assert found[0].verdict.kind == "best"
        assert "at all three sizes" in found[0].verdict.sentence


@pytest.mark.slow
def test_two_settings_are_matched_at_equal_values_of_the_other(tmp_path, monkeypatch):
    runs = [
        run
        for norm in ("true", "false")
        for run in Sweep(decays((0.1, 0.3, 1.0))).with_settings({"model.qk_norm": norm})
    ]
    found = answers_of(load_sweep(swept(tmp_path, monkeypatch, runs, valley(0.3))), "model.qk_norm")
    assert [one.setting.key for one in found] == ["model.qk_norm", "optim.weight_decay"]
    assert found[0].matching.tuned == ("optim.weight_decay",)
    assert len(found[1].matching.cells) == 6
    assert "at all 6 places" in found[1].verdict.sentence


@pytest.mark.slow
def test_the_report_begins_with_the_answer_and_its_figure(tmp_path, monkeypatch):
    folder = swept(tmp_path, monkeypatch, decays((0.1, 0.3, 1.0, 3.0)), valley(0.5))
    page, said = write_report(folder, bootstrap=0)
    assert said[0].startswith("optim.weight_decay ")
    text = page.with_name("report.md").read_text()
    assert text.index("setting-1.svg") == text.index(".svg") - len("setting-1")
    for name in ("runs.csv", "table.csv"):
        header, *rows = (page.parent / name).read_text().splitlines()
        assert header.endswith(",optim.weight_decay")
        assert {row.rpartition(",")[2] for row in rows} == {"0.1", "0.3", "1", "3"}
    assert json.loads((page.parent / "settings.json").read_text())["settings"][0]["paired"] is True


def test_the_command_says_the_same(tmp_path, monkeypatch, capsys):
    folder = swept(tmp_path, monkeypatch, decays(), valley(0.3))
    command([str(folder), "--out", str(tmp_path / "settings.json")])
    assert "optim.weight_decay 0.3 is best at all three sizes" in capsys.readouterr().out
    assert json.loads((tmp_path / "settings.json").read_text())["settings"][0]["best"] == "0.3"
    with pytest.raises(SystemExit) as ended:
        command([str(folder), "--question", "optim.beta1"])
    assert ended.value.code == 2


def test_a_question_that_is_no_field_or_does_not_vary_is_refused_at_once():
    assert Sweep(decays(), question="optim.weight_decay").question == "optim.weight_decay"
    with pytest.raises(
        BadInput, match=r"question=weight_decay: no field of a run, did you mean optim.weight_decay"
    ):
        Sweep(decays(), question="weight_decay")
    with pytest.raises(BadInput, match=r"question=optim.beta2: the sweep does not vary it, every run has 0.95"):
        Sweep(decays(), question="optim.beta2")


def test_short_names_are_the_least_that_tells_groups_apart():
    both = [
        {"model.parametrization": "mup", "optim.learning_rate": "0.006"},
        {"model.parametrization": "standard", "optim.learning_rate": "0.0058 to 0.00189 by size"},
    ]
    assert short_names(both) == ["mup", "standard"]
    assert short_names([{"model.qk_norm": "true"}, {"model.qk_norm": "false"}]) == [
        "qk_norm=true",
        "qk_norm=false",
    ]
    assert short_names([{"a.decay": "1", "b.decay": "2"}, {"a.decay": "2", "b.decay": "2"}]) == [
        "decay=1",
        "decay=2",
    ]
    long = ["text:/data/" + "x" * 40 + name for name in ("/one", "/two")]
    assert len(set(short_values(long))) == 2
    assert max(map(len, short_values(long))) <= 32
