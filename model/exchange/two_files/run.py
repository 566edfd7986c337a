"""A language model in two files, this one and model.npz: python run.py --prompt A B --temperature 0.8 --seed 1

numpy is all they need. Everything is float32, one text at a time; keys and values of earlier positions are kept. A seed
gives the same random numbers as the program that trained the model: Threefry-2x32 (Salmon et al. 2011), keyed by seed,
prompt, sample and position. As a module: Model("model.npz").write("def main(", max_tokens=60).
"""

import argparse
import json
import re
import sys
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

CONTROLS = {  # name: (default, least, most, what it does)
    "max_tokens": (128, 1, 1_000_000, "of each text"),
    "temperature": (1.0, 0, 1e4, "above 1 more even, below 1 more certain; 0 takes the likeliest token"),
    "top_k": (0, 0, 2**31 - 1, "draw among the k likeliest; 0 for all"),
    "top_p": (1.0, 1e-9, 1, "among the fewest that hold this probability"),
    "min_p": (0.0, 0, 1, "among those at least this share as likely as the likeliest"),
    "frequency_penalty": (0.0, -1000, 1000, "taken off a token's score each time it was there"),
    "presence_penalty": (0.0, -1000, 1000, "taken off a token's score once it was there"),
    "repetition_penalty": (1.0, 1e-3, 1e3, "divides scores of tokens of prompt and answer; 1 is none"),
    "samples": (1, 1, 100_000, "texts of each prompt"),
    "seed": (0, 0, 2**31 - 1, "the same gives the same text"),
}


def threefry(key, count):
    """Random bits for each of `count`: two words under a key of two words."""
    words = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = words[0], np.array(count, np.uint32) + words[1]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = (y << np.uint32(turn) | y >> np.uint32(32 - turn)) ^ x
        x, y = x + words[(group + 1) % 3], y + words[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def gumbel(key, count):
    """Noise: the largest of score plus noise is a draw from the softmax of the scores."""
    x, y = threefry(key, range(count))
    unit = ((x ^ y) >> np.uint32(9) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)
    return -np.log(-np.log(np.maximum(unit, np.finfo(np.float32).tiny)))


def softmax(x):
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


class TableTokenizer:  # text to tokens and back
    def __init__(self, about, arrays):
        ends, text = [0, *arrays["token_ends"].tolist()], arrays["token_text"].tobytes()
        self.about, self.texts = about, [text[start:end] for start, end in pairwise(ends)]
        self.words = {word: number for number, word in enumerate(self.texts) if number >= about["first_word"]}
        self.bytes = arrays["byte_ids"].tolist()
        self.merges = {(a, b): (rank, new) for rank, (a, b, new) in enumerate(arrays["merges"].tolist())}
        self.starts, self.classes = arrays["class_starts"], arrays["class_names"].tobytes().decode()

    def decode(self, tokens):
        return b"".join(self.texts[token] for token in tokens).decode("utf-8", "replace")

    def encode(self, text):
        """Cut into pieces by patterns of the text or of its characters' classes; each is a word or bytes to merge."""
        found = np.searchsorted(self.starts, [ord(one) for one in text], "right") - 1
        shadow, position, tokens = "".join(self.classes[one] for one in found), 0, []
        of_text, of_classes = (re.compile(self.about[name], re.DOTALL) for name in ("of_text", "of_classes"))
        while position < len(text):
            end = (of_text.match(text, position) or of_classes.match(shadow, position)).end()
            piece, position = text[position:end].encode(), end
            word = self.words.get(piece, self.about["unknown"])
            tokens += self.merged([self.bytes[one] for one in piece]) if self.bytes else [word]
        return tokens

    def merged(self, tokens):
        """Byte-pair encoding: what was learned first is merged first, from the left, until nothing is left."""
        get, none = self.merges.get, (len(self.merges), 0)
        while (best := min(pairs := [get(two, none) for two in pairwise(tokens)], default=none)) != none:
            at = pairs.index(best)
            tokens[at : at + 2] = [best[1]]
        return tokens


class Model:  # axes: T new positions, G key heads, R query heads of each, K width of a head
    def __init__(self, path):
        file = np.load(path, allow_pickle=False).items()  # bfloat16 lies there as uint16
        self.weights = {name: (x.astype("u4") << 16).view("f4") if x.dtype == "u2" else x for name, x in file}
        self.about = json.loads(self.weights["about"].tobytes())
        self.tokenizer = TableTokenizer(self.about["tokenizer"], self.weights)
        stacks = {name[7:]: stack for name, stack in self.weights.items() if name.startswith("blocks.")}
        self.layers = [{name: one[at] for name, one in stacks.items()} for at in range(self.about["depth"])]

    def empty(self, length):
        """Room for the keys and values of `length` positions."""
        groups, width = self.about["kv_heads"], self.about["head_width"]
        self.seen, self.kept = 0, np.zeros((len(self.layers), 2, groups, length, width), np.float32)
        angle = np.arange(length)[:, None] * self.about["rope_base"] ** (-np.arange(0, width, 2) / width)
        self.turns = [turn(angle).astype(np.float32)[:, None] for turn in (np.cos, np.sin)]

    def norm(self, x, gain):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.about["norm_epsilon"]) * gain

    def turned(self, x, end):
        (first, second), (cosine, sine) = np.split(x, 2, -1), (turn[self.seen : end] for turn in self.turns)
        return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)

    def attention(self, x, layer, kept):
        count, groups, width, end = len(x), kept.shape[1], kept.shape[-1], self.seen + len(x)
        q, k, v = ((x @ layer[name]).reshape(count, -1, width) for name in ("query", "key", "value"))
        if "query_norm" in layer:
            q, k = self.norm(q, layer["query_norm"]), self.norm(k, layer["key_norm"])
        kept[:, :, self.seen : end] = np.stack([self.turned(k, end), v]).swapaxes(1, 2)
        q_GRTK = self.turned(q, end).reshape(count, groups, -1, width).transpose(1, 2, 0, 3)
        scores = q_GRTK @ kept[0][:, None, :end].swapaxes(-1, -2) * self.about["attention_scale"]
        scores[..., np.arange(end) > np.arange(self.seen, end)[:, None]] = -np.inf
        mixed_GRTK = softmax(scores) @ kept[1][:, None, :end]
        return mixed_GRTK.transpose(2, 0, 1, 3).reshape(count, -1) @ layer["attention_output"]

    def feed_forward(self, x, layer):
        up = x @ layer["up"]
        if "gate" in layer:
            gate = x @ layer["gate"]
            return (gate / (1 + np.exp(-gate)) * up) @ layer["down"]
        inner = np.float32(np.sqrt(2 / np.pi)) * (up + np.float32(0.044715) * up**3)
        return (up / 2 * (1 + np.tanh(inner))) @ layer["down"]

    def logits(self, tokens):
        """Scores of the next token after each of `tokens`, which follow those of earlier calls; (T, V)."""
        x, branch = self.weights["embedding"][np.asarray(tokens)], self.about["branch_multiplier"]
        for layer, kept in zip(self.layers, self.kept, strict=True):
            x = x + branch * self.attention(self.norm(x, layer["attention_norm"]), layer, kept)
            x = x + branch * self.feed_forward(self.norm(x, layer["feed_forward_norm"]), layer)
        self.seen += len(tokens)
        x = self.norm(x, self.weights["final_norm"]) * self.about["logit_multiplier"]
        scores, cap = x @ self.weights.get("head", self.weights["embedding"]).T, self.about["logit_softcap"]
        return cap * np.tanh(scores / cap) if cap else scores

    def choose(self, scores, prompt, generated, key, control, penalty_counts):
        """The next token: penalties, temperature, top-k, top-p, min-p, in this order, then a draw."""
        scores[len(self.tokenizer.texts) :] = -np.inf  # rows of the table that stand for no token
        there, factor = np.unique([*prompt, *generated]), control["repetition_penalty"]
        scores[there] = np.where(scores[there] < 0, scores[there] * factor, scores[there] / factor)
        counted = generated if penalty_counts == "generated" else [*prompt, *generated]
        count = np.bincount(np.array(counted, int), minlength=len(scores)).astype(np.float32)
        scores -= count * control["frequency_penalty"] + (count > 0) * control["presence_penalty"]
        if control["temperature"] == 0:
            return int(np.argmax(scores))
        scores /= control["temperature"]
        scores[scores < np.sort(scores)[-min(control["top_k"] or len(scores), len(scores))]] = -np.inf
        order = np.argsort(scores, kind="stable")[:-1]  # the likeliest stays
        below = np.cumsum(softmax(scores)[order]) <= np.float32(1) - np.float32(control["top_p"])
        scores[order[below]] = -np.inf
        share = softmax(scores)
        scores[share < control["min_p"] * share.max()] = -np.inf
        return int(np.argmax(scores + gumbel(threefry(key, [len(generated)]), len(scores))))

    def write(self, text, stop=(), sample=0, penalty_counts="generated", **controls):
        """What follows `text`, up to a stop text, the end token or `max_tokens`."""
        control, end = {name: value[0] for name, value in CONTROLS.items()} | controls, self.about["separator"]
        prompt, generated, answer = [end, *self.tokenizer.encode(text)], [], ""
        key = np.zeros(1, np.uint32), np.array([control["seed"]], np.uint32)
        key = threefry(threefry(key, [zlib.crc32(np.array(prompt, "<i4").tobytes())]), [sample])
        self.empty(len(prompt) + control["max_tokens"])
        while len(generated) < control["max_tokens"] and not any(one in answer for one in stop):
            scores = self.logits(generated[-1:] or prompt)[-1]
            if (token := self.choose(scores, prompt, generated, key, control, penalty_counts)) == end:
                break
            generated.append(token)
            answer = self.tokenizer.decode(generated)
        return answer[: min((answer.index(one) for one in stop if one in answer), default=len(answer))]


if __name__ == "__main__":
    flags = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__.split("\n")[0])
    flags.add_argument("--prompt", nargs="+", default=[""], help="what the model goes on from")
    flags.add_argument("--stop", nargs="+", default=[], help="texts that end the answer and are left out")
    flags.add_argument("--penalty-counts", choices=["generated", "all"], default="generated")
    for name, (default, _, _, about) in CONTROLS.items():
        flags.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=about)
    options = vars(flags.parse_args())
    for name, (_, least, most, _) in CONTROLS.items():
        if not least <= options[name] <= most:
            flags.error(f"{name}={options[name]}: must be {least:g} to {most:g}")
    if "" in options["stop"]:
        flags.error("stop='': a stop text must have a character")
    try:
        model = Model(Path(__file__).with_name("model.npz"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        flags.error(f"model.npz: cannot be read ({error})")
    texts = [(prompt, sample) for prompt in options.pop("prompt") for sample in range(options["samples"])]
    for number, (prompt, sample) in enumerate(texts, 1):
        sys.stdout.write("\n" * (number > 1) + f"--- {number} of {len(texts)}\n" * (len(texts) > 1))
        sys.stdout.write(prompt + model.write(prompt, sample=sample, **options) + "\n")
