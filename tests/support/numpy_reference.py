"""The network and its gradients again, in float64 NumPy, with every derivative written by hand.

Written from the papers and not from the model's code: plain loops over layers and heads, one sequence of
formulas forward and their derivatives backward. An oracle for tests; slow.
"""

import math

import numpy as np


def norm(x, gain, epsilon):
    scale = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)
    return x * scale * gain, (x, scale, gain)


def norm_backward(kept, dy):
    x, scale, gain = kept
    d_gain = (dy * x * scale).reshape(-1, x.shape[-1]).sum(0)
    d_hat = dy * gain
    return scale * d_hat - x * scale**3 * (d_hat * x).mean(-1, keepdims=True), d_gain


def rotation(length, width, base):
    """One rotation matrix for each position, (T, K, K)."""
    matrices = np.zeros((length, width, width))
    half = width // 2
    for t in range(length):
        for k in range(half):
            angle = t * base ** (-2 * k / width)
            matrices[t, k, k] = matrices[t, half + k, half + k] = math.cos(angle)
            matrices[t, k, half + k], matrices[t, half + k, k] = -math.sin(angle), math.sin(angle)
    return matrices


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def activate(config, up, gate):
    if config.activation == "swiglu":
        return gate * sigmoid(gate) * up
    inner = math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)
    return 0.5 * up * (1 + np.tanh(inner))


def activate_backward(config, up, gate, dy):
    if config.activation == "swiglu":
        s = sigmoid(gate)
        return dy * gate * s, dy * up * (s + gate * s * (1 - s))
    root = math.sqrt(2 / math.pi)
    tanh = np.tanh(root * (up + 0.044715 * up**3))
    return dy * (0.5 * (1 + tanh) + 0.5 * up * (1 - tanh**2) * root * (1 + 3 * 0.044715 * up**2)), None


def attention(config, p, h):
    """h (B, T, D) to (B, T, D), and what the backward pass needs."""
    batch, length, _ = h.shape
    K, H, G = config.resolved_head_width, config.heads, config.kv_heads
    turn = rotation(length, K, config.rope_base)
    ago = np.arange(length)[:, None] - np.arange(length)
    allowed = (ago >= 0) & (ago < (config.window or length))
    kept = {"h": h, "heads": [], "turn": turn}
    sides = {}
    for name, count in (("query", H), ("key", G), ("value", G)):
        raw = (h @ p[name]).reshape(batch, length, count, K)
        if name != "value":
            normed, kept[name] = (
                norm(raw, p[name + "_norm"], config.norm_epsilon) if config.qk_norm else (raw, None)
            )
            raw = np.einsum("tij,bthj->bthi", turn, normed)
        sides[name] = raw
    mixed = np.zeros((batch, length, H, K))
    for head in range(H):
        q, k, v = (
            sides["query"][:, :, head],
            sides["key"][:, :, head * G // H],
            sides["value"][:, :, head * G // H],
        )
        scores = np.where(allowed, q @ k.transpose(0, 2, 1) / math.sqrt(K), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed[:, :, head] = weights @ v
        kept["heads"].append((q, k, v, weights))
    kept["mixed"] = mixed.reshape(batch, length, H * K)
    return kept["mixed"] @ p["attention_output"], kept


def attention_backward(config, p, kept, dy, grads):
    h, turn = kept["h"], kept["turn"]
    batch, length, _ = h.shape
    K, H, G = config.resolved_head_width, config.heads, config.kv_heads
    grads["attention_output"] = np.einsum("bti,btj->ij", kept["mixed"], dy)
    d_mixed = (dy @ p["attention_output"].T).reshape(batch, length, H, K)
    d = {"query": np.zeros((batch, length, H, K)), "key": np.zeros((batch, length, G, K))}
    d["value"] = np.zeros((batch, length, G, K))
    for head, (q, k, v, weights) in enumerate(kept["heads"]):
        do, group = d_mixed[:, :, head], head * G // H
        d["value"][:, :, group] += weights.transpose(0, 2, 1) @ do
        d_weights = do @ v.transpose(0, 2, 1)
        d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdims=True)) / math.sqrt(K)
        d["query"][:, :, head] += d_scores @ k
        d["key"][:, :, group] += d_scores.transpose(0, 2, 1) @ q
    dh = np.zeros_like(h)
    for name in ("query", "key", "value"):
        side = d[name]
        if name != "value":
            side = np.einsum("tij,bthi->bthj", turn, side)
            if config.qk_norm:
                side, grads[name + "_norm"] = norm_backward(kept[name], side)
        side = side.reshape(batch, length, -1)
        grads[name] = np.einsum("bti,btj->ij", h, side)
        dh += side @ p[name].T
    return dh


def loss_and_gradients(config, params, tokens, targets, z_loss):
    """Mean loss with z-loss, per-token losses, logits, and the gradient tree; everything float64."""
    params = {
        name: {key: np.asarray(x, np.float64) for key, x in value.items()}
        if isinstance(value, dict)
        else np.asarray(value, np.float64)
        for name, value in params.items()
    }
    table = params["embedding"]
    x, kept = table[tokens], []
    for layer in range(config.depth):
        p = {name: value[layer] for name, value in params["blocks"].items()}
        h, n1 = norm(x, p["attention_norm"], config.norm_epsilon)
        y, attended = attention(config, p, h)
        x = x + y
        h, n2 = norm(x, p["feed_forward_norm"], config.norm_epsilon)
        up, gate = h @ p["up"], h @ p["gate"] if "gate" in p else None
        hidden = activate(config, up, gate)
        kept.append((p, n1, attended, n2, h, up, gate, hidden))
        x = x + hidden @ p["down"]
    final, n3 = norm(x, params["final_norm"], config.norm_epsilon)
    head = table if config.tied else params["head"]
    raw = final @ head.T
    cap = config.logit_softcap
    logits = cap * np.tanh(raw / cap) if cap else raw
    top = logits.max(-1, keepdims=True)
    logz = (top + np.log(np.exp(logits - top).sum(-1, keepdims=True)))[..., 0]
    nll = logz - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    loss = nll.mean() + z_loss * (logz**2).mean()

    share = np.exp(logits - logz[..., None])
    d_logits = share * (1 + 2 * z_loss * logz[..., None])
    np.put_along_axis(
        d_logits, targets[..., None], np.take_along_axis(d_logits, targets[..., None], -1) - 1, axis=-1
    )
    d_logits /= tokens.size
    d_raw = d_logits * (1 - (logits / cap) ** 2) if cap else d_logits
    d_head = np.einsum("btv,btd->vd", d_raw, final)
    dx, d_final_norm = norm_backward(n3, d_raw @ head)
    layers = []
    for p, n1, attended, n2, h, up, gate, hidden in reversed(kept):
        grads = {"down": np.einsum("btf,btd->fd", hidden, dx)}
        d_up, d_gate = activate_backward(config, up, gate, dx @ p["down"].T)
        grads["up"] = np.einsum("btd,btf->df", h, d_up)
        dh = d_up @ p["up"].T
        if d_gate is not None:
            grads["gate"] = np.einsum("btd,btf->df", h, d_gate)
            dh = dh + d_gate @ p["gate"].T
        step, grads["feed_forward_norm"] = norm_backward(n2, dh)
        dx = dx + step
        step, grads["attention_norm"] = norm_backward(n1, attention_backward(config, p, attended, dx, grads))
        dx = dx + step
        layers.append(grads)
    d_table = np.zeros_like(table)
    np.add.at(d_table, tokens, dx)
    gradients = {
        "embedding": d_table + d_head if config.tied else d_table,
        "blocks": {name: np.stack([grads[name] for grads in layers[::-1]]) for name in layers[0]},
        "final_norm": d_final_norm,
    }
    if not config.tied:
        gradients["head"] = d_head
    return loss, nll, logits, gradients
