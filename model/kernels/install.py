"""A network with the fastest kernel of each of its modules."""

import dataclasses

from flax import nnx

from model.config import ModelConfig
from model.kernels import choose, feature_major, fused_attention, loss_in_blocks, trial
from model.kernels.choose import Choice, Device
from model.kernels.device import products_here, this_device
from model.mesh_shape import Shape, batch_parts, sizes
from model.sharding import shards
from model.transformer import Attention, Head, Transformer

ATTENTION: dict[str, type[Attention]] = {"cudnn": fused_attention.Cudnn, "splash": fused_attention.Splash}


def with_kernels(model: Transformer, shape_BT: tuple[int, ...], layout: str = "") -> Transformer:
    """`model`, each module of it computed by the kernel that the rules of `choose` name for this device, if any.

    A kernel is a subclass of the definition with the same parameters: here modules change their class.

    Args:
      shape_BT: of the tokens.
      layout: token-major or feature-major; else by the rule.
    """
    config, device = model.config, this_device()
    layout = layout or choose.layout(config, device).name
    kernels: dict[type[nnx.Module], type[nnx.Module]] = {}
    in_blocks: type[Head] = loss_in_blocks.InBlocks
    if layout == "feature-major":
        kernels, in_blocks = dict(feature_major.KERNELS), loss_in_blocks.FeatureMajorInBlocks
    elif (chosen := attention(config, device, shape_BT[1]).name) in ATTENTION:
        kernels[Attention] = ATTENTION[chosen]
    positions = _positions_at_once(config.vocabulary, shape_BT)
    if positions < shape_BT[1]:
        kernels[Head] = in_blocks
    return installed(model, kernels, length=shape_BT[1], positions=positions)


def attention(config: ModelConfig, device: Device, length: int) -> Choice:
    """The rule of `choose.attention`; xla in place of a kernel that was tried here and refused."""
    chosen = choose.attention(config, device, length)
    refusal = trial.refusal(config, chosen.name, length) if chosen.name in ATTENTION else None
    return Choice("xla", f"{chosen.name} was tried: {refusal}") if refusal else chosen


def record(
    config: ModelConfig, device: Device, mesh: Shape, sequences: int, length: int
) -> dict[str, dict[str, str]]:
    """Every choice of a run with its reason: what env.json keeps.

    Older attempts name the layouts rows, for token-major, and columns, for feature-major: the same programs.

    Args:
      mesh: devices along data, fsdp and tensor, and expert where there is a fourth.
      sequences: of one step's batch, over all devices.
    """
    tensor = sizes(mesh)[2]
    made = {
        "layout": choose.layout(config, device),
        "attention": attention(config, device, length),
        "loss": choose.loss(config.vocabulary // tensor, max(1, sequences // batch_parts(mesh)), length),
        "products": products_here(config, device),
    }
    return {name: dataclasses.asdict(choice) for name, choice in made.items()}


def installed(
    model: Transformer, kernels: dict[type[nnx.Module], type[nnx.Module]], **settings: int
) -> Transformer:
    """`model`, the class of each module replaced by its kernel; a kernel takes the settings that it knows."""
    for _, module in nnx.iter_modules(model):
        if kernel := kernels.get(type(module)):
            module.__class__ = kernel
            for name, value in settings.items():
                if hasattr(kernel, name):
                    setattr(module, name, value)
    return model


def _positions_at_once(vocabulary: int, shape_BT: tuple[int, ...]) -> int:
    """Positions of each sequence whose logits are computed together, by the rule of `choose.loss_positions`."""
    sequences = max(1, shape_BT[0] // shards("batch"))
    return choose.loss_positions(vocabulary // shards("vocabulary"), sequences, shape_BT[1])
