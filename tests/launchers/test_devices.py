"""Where workers go, from the environment alone."""

import os

import pytest

from core.errors import BadInput
from launchers.local import devices
from launchers.local.devices import devices_of_a_run, places, visible_gpus
from model.config import ModelConfig
from training.spec import RunSpec


def test_one_single_threaded_worker_a_core(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert [place.cores for place in places(10)] == [(0,), (1,), (2,), (3,)]
    assert [place.cores for place in places(10, workers=2)] == [(0,), (1,)]
    assert [place.cores for place in places(10, cores_per_worker=2)] == [(0, 1), (2, 3)]


def test_the_threads_of_a_run_do_not_depend_on_how_many_runs_are_left(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert {len(place.cores) for runs in (1, 2, 100) for place in places(runs)} == {1}


@pytest.fixture
def _a_jax_with_cuda(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(devices, "require_cuda", lambda gpus: None)


@pytest.mark.usefixtures("_a_jax_with_cuda")
def test_one_worker_a_visible_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    assert visible_gpus() == ["2", "5", "7"]
    assert [place.environment for place in places(2)] == [
        {"CUDA_VISIBLE_DEVICES": "2", "JAX_PLATFORMS": "cuda"},
        {"CUDA_VISIBLE_DEVICES": "5", "JAX_PLATFORMS": "cuda"},
    ]
    assert len(places(9)) == 3
    assert len(places(9, workers=1)) == 1


@pytest.mark.parametrize(
    ("variable", "gpus"),
    [
        ("-1", []),
        ("", []),
        ("0,-1,1", ["0"]),
        (" 1 , 2", ["1", "2"]),
        ("NoDevFiles", []),
        ("GPU-8f2a", ["GPU-8f2a"]),
    ],
)
def test_cuda_ends_its_list_at_the_first_that_is_none(monkeypatch, variable, gpus):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == gpus
    if not gpus:
        assert places(1)[0].environment["JAX_PLATFORMS"] == "cpu"


@pytest.fixture
def _a_tpu_host(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for chip in range(4):
        (tmp_path / f"accel{chip}").touch()
    monkeypatch.setattr(devices, "DEVICES", tmp_path)


@pytest.mark.usefixtures("_a_tpu_host")
def test_small_models_get_a_worker_for_each_chip_of_a_tpu_host():
    small, large = RunSpec(), RunSpec(model=ModelConfig(width=4096, depth=32, heads=32, kv_heads=32))
    assert devices_of_a_run([small]) == 1
    alone = places(9, devices=devices_of_a_run([small]))
    assert [place.name for place in alone] == ["tpu 0", "tpu 1", "tpu 2", "tpu 3"]
    assert {place.environment["TPU_VISIBLE_CHIPS"] for place in alone} == {"0", "1", "2", "3"}
    assert {place.environment["JAX_PLATFORMS"] for place in alone} == {"tpu"}
    assert len(places(2)) == 2
    assert devices_of_a_run([small, large]) == 0
    for whole in (places(9, devices=0), places(9, devices=4), places(9, workers=1)):
        assert [place.environment for place in whole] == [{"JAX_PLATFORMS": "tpu"}]


def test_a_platform_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BadInput, match="JAX_PLATFORMS=cuda: no such device is here"):
        places(1)


@pytest.mark.usefixtures("_a_jax_with_cuda")
def test_a_run_over_several_devices_gets_them_together(monkeypatch):
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
