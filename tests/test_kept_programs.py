"""What tests compiled is kept for the next call of pytest, and nothing torn is."""

from jax._src import compilation_cache

from tests.support import compiled


def test_whole_programs_are_kept_and_copied_and_a_torn_one_is_not(tmp_path):
    session, kept, later = tmp_path / "session", tmp_path / "kept", tmp_path / "later"
    session.mkdir()
    whole = compilation_cache.compress_executable(b"program" * 1000)
    (session / "whole-cache").write_bytes(whole)
    (session / "torn-cache").write_bytes(whole[: len(whole) // 2])
    compiled.take(kept, session)  # the first call finds none
    compiled.keep(session, kept)
    compiled.take(kept, later)
    assert [path.name for path in later.iterdir()] == ["whole-cache"]
    (later / "whole-cache").write_bytes(b"damaged by a test")
    compiled.keep(later, kept)
    assert (kept / "whole-cache").read_bytes() == whole
