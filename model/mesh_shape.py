"""Devices along the axes of a mesh, as plain numbers: planning counts with them, without JAX."""

Shape = tuple[int, ...]  # along data, fsdp, tensor, and expert where there is a fourth

ONE_DEVICE: Shape = (1, 1, 1)


def sizes(shape: Shape) -> tuple[int, int, int, int]:
    """Devices along data, fsdp, tensor and expert."""
    data, fsdp, tensor, *expert = shape
    return data, fsdp, tensor, *(expert or [1])  # type: ignore[return-value]


def batch_parts(shape: Shape) -> int:
    """Into how many parts a batch is cut: over data, fsdp and expert together."""
    data, fsdp, _, expert = sizes(shape)
    return data * fsdp * expert
