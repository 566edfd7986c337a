"""The network as functions of a parameter tree, in the layout of this device or in a given one."""

from model.kernels.install import with_kernels
from model.transformer import Transformer


def apply(config, params, tokens_BT, layout=""):
    """Logits (B, T, V)."""
    return with_kernels(Transformer(config, params), tokens_BT.shape, layout)(tokens_BT)


def token_losses(config, params, tokens_BT, targets_BT, layout=""):
    """Loss and log-partition of every position."""
    model = with_kernels(Transformer(config, params), tokens_BT.shape, layout)
    return model.head.token_losses(model.hidden(tokens_BT), targets_BT)


def objective(config, params, tokens_BT, targets_BT, z_loss, layout=""):
    """What training makes small, and the mean loss."""
    model = with_kernels(Transformer(config, params), tokens_BT.shape, layout)
    return model.head.objective(model.hidden(tokens_BT), targets_BT, z_loss)
