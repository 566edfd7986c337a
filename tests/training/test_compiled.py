"""Where compiled programs are kept. JAX's keys hold the folder's path: under another name of it nothing is found."""

from pathlib import Path

import jax

from training.processes.start import configure_jax


def test_a_cache_folder_with_a_link_to_anothers_programs_names_their_own_folder(tmp_path, monkeypatch):
    told: dict = {}
    monkeypatch.setattr(type(jax.config), "update", lambda _, name, value: told.update({name: value}))
    monkeypatch.chdir(tmp_path)
    Path("linked").mkdir()
    (tmp_path / "linked" / "xla").symlink_to(tmp_path / "cache" / "xla")
    for cache in (Path("cache"), Path("linked")):
        configure_jax(cache)
        assert told.pop("jax_compilation_cache_dir") == str(
            tmp_path / "cache" / "xla" / f"jax-{jax.__version__}"
        )
