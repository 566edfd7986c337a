"""Noise, shape, window, targets and bias of isoFLOP valleys, each against a known truth or a closed form."""

import json

import numpy as np
import pytest
from scipy.integrate import quad

from analysis.isoflop import command as isoflop
from analysis.isoflop.bias import fit_surface
from analysis.isoflop.find import find_valleys
from analysis.isoflop.valleys import cubic_minima, cubic_values
from core.errors import BadInput
from tests.analysis.test_isoflop_apart import LAW, table

TRUE_A = LAW[4] / (LAW[3] + LAW[4])
ASYMMETRIC = (1.7, 300.0, 3000.0, 0.25, 0.40)


def best_size(flops, law=LAW):
    _, a, b, alpha, beta = law
    return (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))


@pytest.mark.slow
@pytest.mark.parametrize("bad", [pytest.param(False, marks=pytest.mark.long), True])
def test_intervals_hold_the_exponent_and_the_best_size_at_a_target_in_95_percent(bad):
    """docs/guides/tables.md has the same for more designs (`python -m bench.calibrate_isoflop`)."""
    tables, held = 200, np.zeros(2)
    for seed in range(tables):
        columns = table(seed, centre=1.5)
        if bad:
            rng = np.random.default_rng([seed, 1])
            columns["loss"][rng.integers(columns["loss"].size)] *= 1 + rng.uniform(0.05, 0.4)
        found = find_valleys(columns, bootstrap=300, targets=(1e22,))
        ends, (target,) = found.intervals["a_opt"], found.at_targets
        held += (
            ends[0] <= TRUE_A <= ends[1],
            target.params_interval[0] <= best_size(1e22) <= target.params_interval[1],
        )
    assert (held / tables >= 0.91).all()  # 0.95 less 2.6 standard deviations of 200
    assert (held / tables <= 0.985).all()


def test_noise_is_that_of_the_runs_whatever_a_parabola_misses():
    estimates = [find_valleys(table(seed, span=12.0, noise=0.001), bootstrap=0).noise for seed in range(30)]
    assert np.sqrt(np.mean(np.square(estimates))) == pytest.approx(0.001, rel=0.12)


def test_a_budget_that_scatters_more_has_its_own_noise_and_is_named():
    columns = table(3)
    columns["loss"][9:18] *= np.exp(0.03 * np.random.default_rng(1).standard_normal(9))
    found = find_valleys(columns, keep_all=True)
    (line,) = [line for line in found.warnings if "has its own noise" in line]
    assert line.startswith("the losses at 3e+18 FLOPs scatter by")
    assert found.noise == pytest.approx(0.002, rel=0.4)
    assert found.intervals["a_opt"][0] < TRUE_A < found.intervals["a_opt"][1]


def test_noise_that_is_given_is_taken_in_either_unit():
    columns = table(0)
    relative = find_valleys(columns, noise=0.002)
    nats = find_valleys(columns, noise=0.002 * 3.2, noise_unit="nats")
    assert relative.noise == 0.002
    assert relative.noise_source == nats.noise_source == "given"
    widths = [np.ptp(found.intervals["a_opt"]) for found in (relative, nats)]
    assert widths[0] == pytest.approx(widths[1], rel=0.25)
    assert np.ptp(find_valleys(columns, noise=0.004).intervals["a_opt"]) == pytest.approx(
        2 * widths[0], rel=0.1
    )


def test_a_cubic_goes_where_polyfit_goes():
    generator = np.random.default_rng(1)
    x = np.sort(generator.uniform(15, 20, 8))
    loss = 3 + 0.1 * (x - 17) ** 2 + 0.01 * (x - 17) ** 3 + 0.005 * generator.normal(size=(10, 8))
    found = cubic_minima(x, loss)
    for row in range(10):
        cubic = np.poly1d(np.polyfit(x - 17, loss[row], 3))
        (at,) = [root.real for root in cubic.deriv().roots if cubic.deriv(2)(root) > 0]
        assert found.log_params_B[row] == pytest.approx(17 + at, abs=1e-8)
        assert found.loss_B[row] == pytest.approx(cubic(at), abs=1e-10)
        np.testing.assert_allclose(cubic_values(x, loss[row], x), cubic(x - 17), atol=1e-10)


def test_valleys_that_are_no_parabolas_are_said_at_the_level_of_the_test():
    def share(of):
        return np.mean([
            any("no parabolas" in line for line in find_valleys(of(seed), bootstrap=0, keep_all=True).warnings)
            for seed in range(100)
        ])  # fmt: skip

    def parabolas(seed):
        columns = table(seed)
        off = np.log(columns["params"] / best_size(columns["flops"]))
        noise = np.exp(0.002 * np.random.default_rng(seed).standard_normal(off.size))
        return {**columns, "loss": (3.0 + 0.05 * off**2) * noise}

    assert share(parabolas) <= 0.05
    assert share(lambda seed: table(seed, law=ASYMMETRIC)) >= 0.95
    assert share(lambda seed: table(seed, law=ASYMMETRIC, span=2.0, noise=0.004)) <= 0.1


@pytest.mark.parametrize("span", [3.0, 6.0, 12.0])
def test_the_bias_of_a_parabola_is_that_of_the_closed_form(span):
    """On many sizes evenly about the best one the vertex follows from three integrals of beta e^-aw + alpha e^bw."""
    alpha, beta = ASYMMETRIC[3:]
    found = find_valleys(table(0, sizes=201, noise=0.0, span=span, law=ASYMMETRIC), bootstrap=0, noise=1e-4)
    half = np.log(span)

    def moment(weight):
        return quad(
            lambda w: weight(w / half) * (beta * np.exp(-alpha * w) + alpha * np.exp(beta * w)), -half, half
        )[0]

    # coefficients of the Legendre polynomials 1 and 2 of u = w / half
    first, second = 1.5 * moment(lambda u: u), 2.5 * moment(lambda u: (3 * u * u - 1) / 2)
    vertex = -first / (3 * second) * half
    assert found.bias.params == pytest.approx(np.expm1(vertex), rel=0.03)
    assert found.bias.a_opt == pytest.approx(0.0, abs=1e-4)
    if abs(np.expm1(vertex)) > 0.05:
        assert any("2603.22339" in line and "alpha = 0.25 and beta = 0.4" in line for line in found.warnings)


@pytest.mark.parametrize("centre", [1.0, 2.0])
def test_the_bias_is_what_is_missed_and_a_window_misses_less(centre):
    columns = table(0, noise=0.0, law=ASYMMETRIC, span=8.0, centre=centre)

    def missed(**options):
        found = find_valleys(columns, noise=1e-4, bootstrap=0, keep_all=True, **options)
        shifts = [np.log(valley.params_opt / best_size(valley.flops, ASYMMETRIC)) for valley in found.valleys]
        assert found.bias.params == pytest.approx(np.expm1(np.mean(shifts)), abs=0.003)
        return abs(np.mean(shifts))

    assert missed() > 0.03
    assert missed(window=3.0) < 0.5 * missed()
    assert missed(method="cubic") < missed()


def test_a_surface_is_recovered():
    columns = table(0, noise=0.0)
    found = fit_surface(*(columns[name] for name in ("params", "tokens", "loss")))
    assert [found.e, found.a, found.b, found.alpha, found.beta] == pytest.approx(LAW, rel=1e-2)


def test_a_window_takes_the_sizes_about_the_minimum():
    columns = table(1)
    found = find_valleys(columns, window=3.0)
    for piece, valley in zip(found.slices, found.valleys, strict=True):
        far = np.abs(piece.log_params_S - np.log(best_size(piece.flops)))
        assert far.max() < np.log(3.0) + 0.3
        assert valley.sizes == piece.log_params_S.size < 9
    narrow = find_valleys(columns, window=1.2)
    assert all(valley.why.startswith("too few sizes") for valley in narrow.valleys)


def test_an_exponent_that_is_held_leaves_the_coefficient():
    found = find_valleys(table(1), exponent=TRUE_A, targets=(1e22,))
    free = find_valleys(table(1), targets=(1e22,))
    assert found.derived["a_opt"] == TRUE_A
    assert found.derived["b_opt"] == pytest.approx(1 - TRUE_A)
    assert found.intervals == {"a_opt": None, "b_opt": None}
    (held,), (both,) = found.at_targets, free.at_targets
    assert held.params_interval[0] < best_size(1e22) < held.params_interval[1]
    assert held.params * held.tokens == pytest.approx(1e22 / 6, rel=1e-6)
    assert np.ptp(np.log(held.params_interval)) < 0.5 * np.ptp(np.log(both.params_interval))
    with pytest.raises(BadInput, match="--exponent: only for"):
        find_valleys(table(1), "hull", exponent=0.5)


def test_one_command_says_the_best_size_at_a_budget(tmp_path, capsys):
    columns = table(0)
    lines = [",".join(columns)] + [
        ",".join(map(repr, map(float, row))) for row in zip(*columns.values(), strict=True)
    ]
    path, out = tmp_path / "table.csv", tmp_path / "out.json"
    path.write_text("\n".join(lines) + "\n")
    isoflop.main([str(path), "--target-flops", "1e21", "1e22", "--noise", "0.002", "--out", str(out)])
    written = json.loads(out.read_text())
    assert [entry["flops"] for entry in written["at_target"]] == [1e21, 1e22]
    low, high = written["at_target"][1]["params_interval"]
    assert low < best_size(1e22) < high
    said = capsys.readouterr().out
    assert "at 1e+22 FLOPs: " in said
    assert "1e+22 FLOPs is a factor 100 beyond the valleys" in said
    assert "noise of a run: 0.002 (given)" in said
