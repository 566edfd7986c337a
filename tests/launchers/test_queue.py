"""Which run goes where: shapes stay together, nothing is handed out twice, a dead worker's run comes back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from launchers.queue import RunQueue
from model.config import ModelConfig
from training.cost import training_flops
from training.program import shape_of
from training.spec import RunSpec


def spec(width: int, steps: int, seed: int = 0) -> RunSpec:
    return RunSpec(model=ModelConfig(width=width), tokens=4096 * steps, seed=seed)


specs = st.lists(
    st.builds(spec, st.sampled_from([16, 32, 64]), st.integers(1, 50), st.integers(0, 3)),
    min_size=1,
    max_size=30,
    unique_by=lambda item: item.run_id,
)


@settings(max_examples=50)
@given(specs, st.integers(1, 4), st.randoms())
def test_every_run_is_handed_out_once_whoever_asks(runs, workers, generator):
    queue = RunQueue(runs)
    taken = []
    while (run := queue.take(generator.randrange(workers))) is not None:
        taken.append(run.run_id)
    assert sorted(taken) == sorted(run.run_id for run in runs)
    assert len(queue) == 0


def test_a_worker_stays_with_its_shape_and_takes_the_longest_first():
    runs = [spec(16, steps) for steps in (1, 2, 3)] + [spec(32, steps) for steps in (1, 2, 3)]
    queue = RunQueue(runs)
    first, second = queue.take(0), queue.take(1)
    assert first is not None
    assert second is not None
    assert shape_of(first) != shape_of(second)
    assert first.model.width == 32  # most work first
    for _ in range(2):
        again = queue.take(0)
        assert again is not None
        assert shape_of(again) == shape_of(first)
    last = queue.take(0)  # its own shape is used up: it helps with the other
    assert last is not None
    assert shape_of(last) == shape_of(second)


def test_a_run_put_back_goes_to_any_worker():
    queue = RunQueue([spec(16, 1)])
    run = queue.take(0)
    assert run is not None
    assert queue.take(1) is None
    queue.put_back(run)
    assert queue.take(1) == run


def test_cost_is_the_ledgers_exact_flops_times_tokens():
    assert training_flops(spec(32, 10)) == 10 * training_flops(spec(32, 1))
    assert training_flops(spec(64, 1)) > training_flops(spec(32, 1))
