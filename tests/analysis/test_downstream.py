"""From two fits to the accuracy of a run to come, with the errors of both in its interval."""

import json

import numpy as np
import pytest

from analysis.downstream import Chain, main
from analysis.fit.fit import Fit, fit_law
from analysis.fit.prediction import predict_law
from analysis.laws import get_law
from core.errors import BadInput

pytestmark = pytest.mark.slow

LOSS, ACCURACY = get_law("chinchilla"), get_law("accuracy_from_bits")
LARGE = {"params": 1e11, "tokens": 1e13}


def truth(law, columns) -> np.ndarray:
    return predict_law(law, np.array([law.planted[name] for name in law.names]), columns)[0]


def fits(noise: float = 0.005) -> tuple[Fit, Fit]:
    rng = np.random.default_rng(0)
    columns = {"params": 10 ** rng.uniform(7, 10, 60), "tokens": 10 ** rng.uniform(9, 12, 60)}
    loss = truth(LOSS, columns) * np.exp(noise * rng.standard_normal(60))
    starts = np.array([list(LOSS.planted.values())])
    first = fit_law(LOSS, {**columns, "loss": loss}, robust="l2", starts=starts, profile=False)
    bits = rng.uniform(0.3, 2.5, 60)
    accuracy = truth(ACCURACY, {"bits_per_byte": bits}) + noise * rng.standard_normal(60)
    tasks = {"bits_per_byte": bits, "accuracy": accuracy}
    return first, fit_law(ACCURACY, tasks, robust="l2", profile=False)


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain(*fits())


@pytest.fixture
def files(chain, tmp_path) -> list[str]:
    paths = [tmp_path / "loss.json", tmp_path / "accuracy.json"]
    for path, fit in zip(paths, (chain.first, chain.second), strict=True):
        path.write_text(json.dumps(fit.to_json()))
    return [str(path) for path in paths]


def width(ends) -> float:
    return float(ends[1][0] - ends[0][0])


def test_the_interval_holds_the_truth_and_the_errors_of_both_steps(chain):
    expected = truth(ACCURACY, {"bits_per_byte": truth(LOSS, LARGE)})
    low, high = chain.predict_interval(LARGE, 0.9)
    assert low[0] < expected[0] < high[0]
    # independent errors add as squares
    first = width(
        [
            chain.second.predict({"bits_per_byte": end})
            for end in chain.first.predict_interval(LARGE, 0.9, noise=False)
        ]
    )
    second = width(
        chain.second.predict_interval({"bits_per_byte": chain.first.predict(LARGE)}, 0.9, noise=False)
    )
    both = width(chain.predict_interval(LARGE, 0.9, noise=False))
    assert both == pytest.approx(np.hypot(first, second), rel=0.1)
    assert width((low, high)) > both


def test_the_command_writes_what_the_functions_say(chain, files, tmp_path, capsys):
    out = tmp_path / "downstream.json"
    main([*files, "--params", "1e11", "--tokens", "1e13", "--out", str(out)])
    written = json.loads(out.read_text())
    assert written["laws"] == ["chinchilla", "accuracy_from_bits"]
    assert written["target"] == "accuracy"
    assert written["bits_per_byte"] == pytest.approx(chain.first.predict(LARGE)[0], rel=1e-12)
    assert written["prediction"] == pytest.approx(chain.predict(LARGE)[0], rel=1e-12)
    low, high = written["interval"]
    assert low < written["prediction"] < high
    assert [len(source["sha256"]) for source in written["fits"]] == [64, 64]
    assert "90% interval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files: [files[1], files[1]], "predicts accuracy: the first fit predicts the loss"),
        (lambda files: [files[0], files[0]], "predicts loss: the first fit predicts the loss"),
        (lambda files: [files[0], "missing.json"], "missing.json: no such file"),
        (lambda files: [*files, "--level", "2"], "level 2.0 is not allowed"),
        (lambda files: [*files, "--params", "-1"], "params -1: must be positive"),
        (lambda files: [*files, "--input", "x"], "--input x: must be NAME=VALUE"),
    ],
)
def test_mistakes_are_one_line(files, tmp_path, capsys, change, words):
    with pytest.raises(SystemExit) as stopped:
        main(["--params", "1e11", "--tokens", "1e13", "--out", str(tmp_path / "out.json"), *change(files)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_a_law_of_several_inputs_is_no_second_step(chain):
    with pytest.raises(BadInput, match="predicts"):
        Chain(chain.second, chain.first)
