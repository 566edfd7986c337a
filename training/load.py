"""A trained run, read back: the door for whoever wants the model and not the sweep.

from training.load import load

model = load("runs/quickstart/w64-l2-t1.0M-s0-1a2b3c4d")
print(model.sample("def main(", max_tokens=40, temperature=0.8)[0].text)
print(model.logprobs("def main():"))
"""

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from core.errors import BadInput
from core.rundir import RunDirectory
from data.cache import open_or_build
from data.tokenizers import MOST_BYTES, ByteTokenizer, Tokenizer
from data.tokenizers import load as load_tokenizer
from model.config import ModelConfig
from model.decode.cache import refuse_unlike_decoder
from model.decode.controls import MostTokens, Samples
from model.kernels.device import products_as
from model.transformer import Transformer
from training.checkpoint import Checkpoints
from training.generate import LanguageModel, Sample, Tool, controls_of, generate
from training.objectives import Params
from training.processes.mesh import choose_mesh
from training.records import read_spec
from training.spec import RunSpec
from training.step import abstract_state


class NoCheckpoint(Exception):
    """A run that has none where one was asked for."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model with its weights.

    Attributes:
      spec: how it was trained. config: its network.
      params: the parameter tree, float32, on `mesh`.
      tokenizer: what turns text into its tokens.
    """

    spec: RunSpec
    params: Params
    tokenizer: Tokenizer
    mesh: jax.sharding.Mesh

    @property
    def config(self) -> ModelConfig:
        """The network."""
        return self.spec.model

    @property
    def network(self) -> LanguageModel:
        """What `training.generate` takes."""
        return LanguageModel(self.config, self.params, self.tokenizer)

    def tokens(self, text: str) -> np.ndarray:
        """What the network reads of a text that begins a document: the end token of the one before, and the text's."""
        return self.network.tokens(text)

    def logits(self, tokens_BT: np.ndarray) -> jax.Array:
        """Scores of every next token, (B, T, V) float32.

        Raises:
          BadInput: the network is no decoder.
        """
        refuse_unlike_decoder(self.config)
        with jax.set_mesh(self.mesh):
            return _logits(self.config, self.params, np.asarray(tokens_BT, np.int32))

    def logprobs(self, text: str) -> np.ndarray:
        """Log-probability of each token of a text, given those before it and that it begins a document; nats (n,)."""
        tokens_T = self.tokens(text)
        if len(tokens_T) == 1:
            return np.zeros(0)
        logprobs_TV = jax.nn.log_softmax(self.logits(tokens_T[None, :-1])[0], axis=-1)
        return np.asarray(jnp.take_along_axis(logprobs_TV, tokens_T[1:, None], axis=-1)[:, 0], np.float64)

    def sample(
        self,
        prompts: str | Sequence[str],
        *,
        max_tokens: MostTokens = 128,
        stop: Sequence[str] = (),
        tools: Mapping[str, Tool] | None = None,
        seed: int = 0,
        samples: Samples = 1,
        batch: int | None = None,
        **controls: Any,
    ) -> list[Sample]:
        """What the model writes after each prompt; all samples of the first prompt first.

        Args:
          max_tokens: of each text.
          stop: texts that end one; they are left out.
          tools: what writes into the text, by the text that calls it (`training.generate`).
          seed: the same seed gives a prompt the same texts, alone or among others.
          samples: texts of each prompt.
          batch: texts computed at once; else by memory.
          controls: fields of `model.decode.controls.Controls`.

        Raises:
          BadInput: a control out of its range, or more text than positions can be counted.
        """
        with jax.set_mesh(self.mesh):
            return generate(
                self.network,
                prompts,
                controls_of(controls),
                max_tokens=max_tokens,
                stop=stop,
                tools=tools,
                seed=seed,
                samples=samples,
                batch=batch,
            )


@functools.partial(jax.jit, static_argnums=0)
def _logits(config: ModelConfig, params: Params, tokens_BT: jax.Array) -> jax.Array:
    with products_as(config):
        return Transformer(config, params)(tokens_BT)


def load(run: str | os.PathLike, *, tokens: int | None = None, cache: str | os.PathLike = "cache") -> Trained:
    """The model of a run directory.

    Args:
      tokens: of the checkpoint; None for the last.
      cache: where token caches lie; asked for the tokenizer of a run that keeps none of its own.

    Raises:
      BadInput: no run, no checkpoint that can be read, or its tokenizer is not to be found.
    """
    directory = Path(run)
    if not directory.is_dir():
        raise BadInput(f"{directory}: no such run directory")
    spec = read_spec(directory)
    mesh = choose_mesh("", spec)
    with jax.set_mesh(mesh), _quiet():
        try:
            params = parameters(directory, spec, mesh, tokens)
        except NoCheckpoint as error:
            raise BadInput(str(error)) from None
    return Trained(spec, params, tokenizer_of(directory, spec, Path(cache)), mesh)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Orbax's warnings that a folder is only read."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def parameters(directory: Path, spec: RunSpec, mesh: jax.sharding.Mesh, tokens: int | None = None) -> Params:
    """The weights of a checkpoint of a run, placed as training has them.

    Args:
      tokens: of the checkpoint; None for the last.

    Raises:
      NoCheckpoint: there is none.
      DamagedCheckpoint: it cannot be read.
    """
    folder = RunDirectory(directory).checkpoints
    checkpoints = Checkpoints(folder, read_only=True) if folder.is_dir() else None
    try:
        latest = None if checkpoints is None else checkpoints.latest_tokens
        if checkpoints is None or latest is None:
            raise NoCheckpoint(f"{folder}: no checkpoint at the run's end, nor any other")
        if tokens is not None and tokens not in (known := checkpoints.tokens):
            kept = ", ".join(map(str, sorted(known)))
            end = "the run's end" if tokens == spec.tokens else f"{tokens} tokens"
            raise NoCheckpoint(f"{folder}: no checkpoint at {end}; there are those at {kept} tokens")
        target = abstract_state(spec.model, mesh, spec.optim.name)
        return checkpoints.restore(latest if tokens is None else tokens, target)[0].params
    finally:
        if checkpoints is not None:
            checkpoints.close()


def tokenizer_of(directory: Path, spec: RunSpec, cache: Path) -> Tokenizer:
    """What a run reads its text with.

    Raises:
      BadInput: the run keeps none, and its corpus gives another here.
    """
    if spec.data.tokenizer == "byte":
        return ByteTokenizer()
    files = RunDirectory(directory)
    if (content := files.read_tokenizer(MOST_BYTES)) is not None:
        return load_tokenizer(spec.data.tokenizer, content)
    found = open_or_build(spec.data, cache)
    if files.environment.exists() and files.read_environment()["corpus"]["fingerprint"] != found.fingerprint:
        raise BadInput(
            f"{directory}: data.tokenizer={spec.data.tokenizer!r} is another here than the one that the run was "
            "trained with"
        )
    return found.tokenizer
