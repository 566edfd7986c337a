"""Why a run failed, in words that say what to change."""

import errno

# What XLA and CUDA say when an accelerator's memory does not suffice.
MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "CUDA_ERROR_OUT_OF_MEMORY")


def advice(error: BaseException) -> str | None:
    """What a user can do about this error; None where nothing more is known than its own message."""
    number = _disk_error(error)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "no space left on the disk (or in its quota): free some; the same command resumes"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "a file cannot be written: make its folder writable; the same command resumes"
    if isinstance(error, MemoryError) or any(word in str(error) for word in MEMORY_WORDS):
        return (
            "out of memory: lower optim.microbatch_tokens (same result, less memory), set model.remat=block or "
            "model.compute_dtype=bfloat16, or spread the run over more devices (--mesh fsdp=...)"
        )
    return None


def _disk_error(error: BaseException | None) -> int | None:
    """The number of the first OSError in a chain of causes; tensorstore passes it on as text."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        text = str(error)
        if "No space left on device" in text:
            return errno.ENOSPC
        if "File too large" in text:
            return errno.EFBIG
        error = error.__cause__ or error.__context__
    return None
