"""Where workers go, from the environment alone."""

import os

import pytest

from core.errors import BadInput
from launchers.local.devices import places, visible_gpus


def test_one_single_threaded_worker_a_core(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert [place.cores for place in places(10)] == [(0,), (1,), (2,), (3,)]
    assert [place.cores for place in places(10, workers=2)] == [(0,), (1,)]
    assert [place.cores for place in places(10, cores_per_worker=2)] == [(0, 1), (2, 3)]


def test_the_threads_of_a_run_do_not_depend_on_how_many_runs_are_left(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert {len(place.cores) for runs in (1, 2, 100) for place in places(runs)} == {1}


def test_one_worker_a_visible_gpu(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    assert visible_gpus() == ["2", "5", "7"]
    assert [place.environment for place in places(2)] == [
        {"CUDA_VISIBLE_DEVICES": "2"},
        {"CUDA_VISIBLE_DEVICES": "5"},
    ]
    assert len(places(9)) == 3
    assert len(places(9, workers=1)) == 1


def test_a_run_over_several_devices_gets_them_together(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3,5,7,9")
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in places(9, devices=2)] == ["1,3", "5,7"]
    with pytest.raises(BadInput, match="--mesh: asks for 6 devices a run; 5 GPUs are here"):
        places(9, devices=6)


def test_gpus_are_left_alone_where_the_cpu_is_asked_for(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert visible_gpus() == []


@pytest.mark.parametrize("arguments", [{"workers": 0}, {"cores_per_worker": 0}, {"cores_per_worker": 10_000}])
def test_impossible_numbers_are_refused(monkeypatch, arguments):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(BadInput, match=str(next(iter(arguments.values())))):
        places(4, **arguments)
