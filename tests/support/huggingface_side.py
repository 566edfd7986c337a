"""What transformers, peft and lm-evaluation-harness make of exported folders: `HF_PYTHON huggingface_side.py FOLDER`.

FOLDER holds one folder a case: the export `model/`, and `ask.npz` with `tokens` (B, T) and `prompts`. Written beside
them is `answer.npz`: logits of the tokens, the ids of the prompts, and the greedy text after each. It imports nothing
of this project, so that JAX and torch never share a process.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 64


def answer(case: Path) -> None:
    ask = np.load(case / "ask.npz", allow_pickle=False)
    tokenizer = AutoTokenizer.from_pretrained(case / "model")
    model, info = AutoModelForCausalLM.from_pretrained(
        case / "model", output_loading_info=True, dtype=torch.float32
    )
    wrong = {key: sorted(map(str, value)) for key, value in info.items() if value}
    with torch.no_grad():
        logits = model(torch.from_numpy(ask["tokens"]).long()).logits.numpy()
    ids, generated, texts = [], [], []
    for prompt in ask["prompts"].tolist():
        read = tokenizer(prompt, return_tensors="pt")
        # Texts that do not end early, so that all of them are compared.
        written = model.generate(**read, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)[0]
        ids.append(read.input_ids[0].tolist())
        generated.append(written[len(ids[-1]) :].tolist())
        texts.append(tokenizer.decode(generated[-1]))
    said = {"class": type(model).__name__, "wrong": wrong, "ids": ids, "generated": generated, "texts": texts}
    np.savez(case / "answer.npz", logits=logits, said=np.array(json.dumps(said)))


def adapted(case: Path) -> dict[str, object]:
    """A LoRA of peft on every projection; at its start the same logits."""
    import peft

    tokens = torch.from_numpy(np.load(case / "ask.npz", allow_pickle=False)["tokens"]).long()
    model = AutoModelForCausalLM.from_pretrained(case / "model")
    with torch.no_grad():
        before = model(tokens).logits
        adapter = peft.get_peft_model(
            model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
        )
        after = adapter(tokens).logits
    trained = sum(one.numel() for one in adapter.parameters() if one.requires_grad)
    return {"peft": peft.__version__, "difference": float((before - after).abs().max()), "trained": trained}


def harness(case: Path) -> dict[str, object]:
    """`lm_eval --model hf` on the tasks in CASE/tasks: sums of log-likelihoods, sample by sample."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(case / "tasks"), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={case / 'model'},dtype=float32",
        tasks=["choose"],
        task_manager=manager,
        device="cpu",
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = found["samples"]["choose"]
    scores = [
        [one[0][0] if isinstance(one[0], (list, tuple)) else one[0] for one in each["resps"]]
        for each in samples
    ]
    order = [each["doc"]["question"] for each in samples]
    return {"lm_eval": lm_eval.__version__, "questions": order, "logprobs": scores}


if __name__ == "__main__":
    root = Path(sys.argv[1])
    torch.manual_seed(0)
    cases = sorted(path for path in root.iterdir() if path.is_dir())
    for case in cases:
        answer(case)
    told: dict[str, object] = {"torch": torch.__version__, "transformers": transformers.__version__}
    told["adapted"] = adapted(cases[0])
    if (cases[0] / "tasks").is_dir():
        told["harness"] = harness(cases[0])
    (root / "told.json").write_text(json.dumps(told))
