"""A trained run as lm-evaluation-harness sees a model. Imported where the harness is installed."""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import TemplateLM

from training.evaluate.text_model import TextModel

APART = "answers were encoded apart from their prompts: together they begin within the prompt's last token"


class HarnessModel(TemplateLM):
    """`TextModel` behind the harness's interface. Every prompt begins a document: the end token stands before it."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model

    @property
    def eot_token_id(self) -> int:
        return self.model.tokenizer.separator

    @property
    def tokenizer_name(self) -> str:
        return f"{type(self.model.tokenizer).__name__}-{self.model.vocabulary}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self.model.encode(string)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        before, after = super()._encode_pair(context, continuation)
        if not after:
            self.model.told[APART] += 1
            before, after = self.tok_encode(context), self.tok_encode(continuation)
        return [self.eot_token_id, *before], after

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        return self.model.loglikelihood([(before, after) for _, before, after in requests])

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        return self.model.rolling([request.args[0] for request in requests])

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        return self.model.generate([request.args for request in requests])
