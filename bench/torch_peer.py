"""The same network in plain PyTorch: the peer that `python launch.py bench` measures beside ours.

An idiomatic implementation: nn.Linear, scaled_dot_product_attention, fused AdamW, with or without torch.compile.
Run by its own interpreter (`--torch-python`), so that torch is no dependency of the project; needs numpy and torch.
"""

import argparse
import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from bench import protocol


class Attention(nn.Module):
    def __init__(self, model: dict[str, Any]):
        super().__init__()
        width, self.K = model["width"], model["head_width"]
        self.query = nn.Linear(width, model["heads"] * self.K, bias=False)
        self.key = nn.Linear(width, model["kv_heads"] * self.K, bias=False)
        self.value = nn.Linear(width, model["kv_heads"] * self.K, bias=False)
        self.attention_output = nn.Linear(model["heads"] * self.K, width, bias=False)
        self.qk_norm = model["qk_norm"]
        if self.qk_norm:
            self.query_norm = nn.RMSNorm(self.K, eps=model["norm_epsilon"])
            self.key_norm = nn.RMSNorm(self.K, eps=model["norm_epsilon"])
        self.grouped = model["heads"] != model["kv_heads"]

    def forward(self, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        B, T, _ = x.shape
        q, k, v = (f(x).view(B, T, -1, self.K).transpose(1, 2) for f in (self.query, self.key, self.value))
        if self.qk_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        q, k = turn(q, cosine, sine), turn(k, cosine, sine)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.grouped)
        return self.attention_output(mixed.transpose(1, 2).reshape(B, T, -1))


def turn(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


class Block(nn.Module):
    def __init__(self, model: dict[str, Any]):
        super().__init__()
        width, ff_width = model["width"], model["ff_width"]
        self.attention_norm = nn.RMSNorm(width, eps=model["norm_epsilon"])
        self.attention = Attention(model)
        self.feed_forward_norm = nn.RMSNorm(width, eps=model["norm_epsilon"])
        self.gated = model["activation"] == "swiglu"
        if self.gated:
            self.gate = nn.Linear(width, ff_width, bias=False)
        self.up = nn.Linear(width, ff_width, bias=False)
        self.down = nn.Linear(ff_width, width, bias=False)

    def forward(self, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x), cosine, sine)
        h = self.feed_forward_norm(x)
        hidden = F.silu(self.gate(h)) * self.up(h) if self.gated else F.gelu(self.up(h), approximate="tanh")
        return x + self.down(hidden)


class Network(nn.Module):
    def __init__(self, model: dict[str, Any], sequence: int):
        super().__init__()
        self.embedding = nn.Embedding(model["vocabulary"], model["width"])
        self.blocks = nn.ModuleList(Block(model) for _ in range(model["depth"]))
        self.final_norm = nn.RMSNorm(model["width"], eps=model["norm_epsilon"])
        self.head = nn.Linear(model["width"], model["vocabulary"], bias=False)
        if model["tied"]:
            self.head.weight = self.embedding.weight
        K = model["head_width"]
        frequency = model["rope_base"] ** (-torch.arange(0, K, 2, dtype=torch.float32) / K)
        angle = torch.arange(sequence, dtype=torch.float32)[:, None] * frequency
        self.register_buffer("cosine", angle.cos())
        self.register_buffer("sine", angle.sin())

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor, blocks: int) -> torch.Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        x = self.final_norm(x).flatten(0, 1)
        if blocks == 1:
            return F.cross_entropy(self.head(x).float(), targets.flatten())
        parts = zip(x.chunk(blocks), targets.flatten().chunk(blocks), strict=True)
        return sum(checkpoint(self.part, *part, use_reentrant=False) for part in parts) / targets.numel()

    def part(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.head(x).float(), targets, reduction="sum")


# Copies of whole float32 logits that a step holds at its peak: they, their log-softmax and its gradient.
LOGIT_COPIES = 3


def blocks_of_loss(device: torch.device, logits: int) -> int:
    """Parts in which the loss is computed, so that all logits together take at most half of a GPU's free memory."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, math.ceil(LOGIT_COPIES * 4 * logits / (free / 2)))


def load(network: Network, path: str) -> None:
    """Copy our parameter tree (an .npz of 'blocks/query' and so on, stacked over layers) into the network."""
    # only with our parameters
    import numpy as np

    with np.load(path) as stored, torch.no_grad():
        for name, parameter in network.named_parameters():
            parts = name.removesuffix(".weight").split(".")
            if parts[0] == "blocks":
                value = stored["blocks/" + parts[-1]][int(parts[1])]
                value = value.T if value.ndim == 2 else value
            else:
                value = stored[parts[0]]
            parameter.copy_(torch.from_numpy(value.copy()))


class Peer:
    """One prepared network at a time; the commands of `protocol`."""

    def __init__(self, compiled: bool, device: str):
        self.compiled, self.device = compiled, torch.device(device)

    def prepare(self, model: dict[str, Any], batch: int, sequence: int, parameters: str) -> dict[str, Any]:
        started = time.perf_counter()
        network = Network(model, sequence)
        load(network, parameters)
        network.to(self.device)
        decayed = [p for name, p in network.named_parameters() if p.ndim == 2 and "embedding" not in name]
        ids = {id(p) for p in decayed}
        rest = [p for p in network.parameters() if id(p) not in ids]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": protocol.WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}],
            lr=protocol.LEARNING_RATE,
            betas=protocol.BETAS,
            eps=protocol.EPSILON,
            fused=True,
        )
        self.parameters = list(network.parameters())
        self.half = model["compute_dtype"] == "bfloat16"
        if self.device.type == "cuda" and model.get("matmul_precision", "default") != "highest":
            torch.set_float32_matmul_precision("high")  # TensorFloat32, as ours
        self.network = torch.compile(network) if self.compiled else network
        self.blocks = blocks_of_loss(self.device, batch * sequence * model["vocabulary"])
        self.batches = [
            torch.from_numpy(array) for array in protocol.batches(model["vocabulary"], batch, sequence)
        ]
        if self.device.type == "cuda":  # a copy from pinned memory does not wait for the device
            self.batches = [tensor.pin_memory() for tensor in self.batches]
        loss = self.step(0)
        if not math.isfinite(loss):
            raise ArithmeticError("the first loss is not finite")
        return {
            "loss": loss,
            "seconds": time.perf_counter() - started,
            "versions": f"torch {torch.__version__}"
            + (f", loss in {self.blocks} blocks" if self.blocks > 1 else ""),
        }

    def step(self, index: int) -> float:
        tokens = self.batches[index % len(self.batches)].to(self.device, non_blocking=True).long()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            loss = self.network(tokens[:, :-1], tokens[:, 1:], self.blocks)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, protocol.CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.last = loss.detach()
        return float(self.last) if index == 0 else math.nan

    def steps(self, count: int) -> dict[str, Any]:
        watch = protocol.Stopwatch()
        for index in range(1, count + 1):
            self.step(index)
        float(self.last)  # waits for the device
        return dict(watch.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peer = Peer(arguments.compile, arguments.device)
    protocol.serve({"prepare": peer.prepare, "steps": peer.steps})


if __name__ == "__main__":
    main()
