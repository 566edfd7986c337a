"""README.md of an exported folder: the card that the hub shows first."""

from model.exchange import Exported

FRONT = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- scaling-experiments
---
"""

USE = """## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(DIR)
model = AutoModelForCausalLM.from_pretrained(DIR)
ids = tokenizer("once upon", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0], skip_special_tokens=True))
```

The tokenizer writes the token that ends a document in front of a text, because every text began so in training.
"""


def readme(model: Exported, dtype: str) -> str:
    """The card, in Markdown."""
    kind = "Qwen3" if model.config.qk_norm else "Llama"
    stored = f"Layout {kind}, weights {dtype}."
    return "\n".join([FRONT, f"# {model.name}\n", stored, "", model.card.strip(), "", USE])
