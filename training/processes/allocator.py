"""Memory settings for processes that train on a CPU.

XLA takes one large scratch allocation for each execution of a program and gives it back after. The C library maps
that from the system each time, and every first touch of a page is a fault that clears 4 KiB: a quarter to two
fifths of the step time of a small model. With these settings the pages stay with the process, and are huge.
"""

HOST_MEMORY_KEPT = str(1 << 40)  # bytes of freed memory that stay with the process: all of it


def environment() -> dict[str, str]:
    """Variables to start a CPU worker with: glibc reads them when a process starts; elsewhere they do nothing."""
    return {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": HOST_MEMORY_KEPT,
    }
