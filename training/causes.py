"""Why a run failed, in words that say what to change."""

from core import disk
from core.errors import is_out_of_memory


def advice(error: BaseException) -> str | None:
    """What a user can do about this error; None where nothing more is known than its own message."""
    number = disk.number_of(error)
    if number in disk.FULL:
        return "no space left on the disk (or in its quota): free some; the same command resumes"
    if number in disk.LOCKED:
        return "a file cannot be written: make its folder writable; the same command resumes"
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return (
            "out of memory: lower optim.microbatch_tokens (same result, less memory), set model.remat=block or "
            "model.compute_dtype=bfloat16, or spread the run over more devices (--mesh fsdp=...)"
        )
    return None
