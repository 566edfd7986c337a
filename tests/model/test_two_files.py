"""A model in two files: with numpy alone, the text that the network here writes."""

import dataclasses
import itertools
import json
import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import BadInput
from data.tokenizers import make
from model.decode.controls import Controls
from model.decode.generate import Prompt
from model.decode.stops import before_stop, stop_texts
from model.exchange import Exported, load
from model.exchange.two_files import PROGRAM, run
from model.exchange.two_files.tokenizer import tables
from model.transformer import Transformer
from tests.model.test_decode import NETWORKS, generate, perturbed

pytestmark = pytest.mark.slow
KINDS = ("byte", "char", "word:200", "bpe:400")
TEXT = "def main(x):\n    return x  # naïve café, don't, we'll: ½ ² \t\r\n 一二三 مرحبا\n"
DOCUMENTS = [TEXT, PROGRAM.read_text(), "the cat sat on the mat, and it's there. " * 3]
PROMPTS = ("def main(", "the café ½ 'tis \U0001f600\n")


DECODERS = {name: config for name, config in NETWORKS.items() if config.architecture == "decoder"}


@pytest.fixture(scope="module")
def models():
    """Networks by name, each with one of the tokenizers."""
    made = {}
    for (name, config), kind in zip(DECODERS.items(), itertools.cycle(KINDS), strict=False):
        tokenizer = make(kind, DOCUMENTS)
        config = dataclasses.replace(config, vocabulary=tokenizer.vocabulary + 7)
        made[name] = config, jax.tree.map(lambda leaf: 0.7 * leaf, perturbed(config)), kind, tokenizer
    return made


def exported(config, params, kind, tokenizer):
    return Exported(
        name="a run", config=config, params=jax.tree.map(np.asarray, params), context=16, tokenizer=kind,
        tokenizer_json=tokenizer.to_json(), vocabulary=tokenizer.vocabulary, end=tokenizer.separator,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory):
    """The two files of each network."""
    root = tmp_path_factory.mktemp("two files")
    for name, model in models.items():
        (root / name).mkdir()
        load("two-files").write(exported(*model), root / name, "float32")
        assert sorted(file.name for file in (root / name).iterdir()) == ["model.npz", "run.py"]
    return root


ASKED = {
    "greedy": {"temperature": 0.0},
    "drawn": {"seed": 3},
    "every control": {
        "temperature": 1.3, "top_k": 30, "top_p": 0.9, "min_p": 0.01, "frequency_penalty": 0.3,
        "presence_penalty": 0.2, "repetition_penalty": 1.2, "penalty_counts": "all", "seed": 2**31 - 1,
    },
    "stopped": {"seed": 5, "stop": ("e", "\ufffd\ufffd")},
}  # fmt: skip


TRIED = dict(zip(DECODERS, ("greedy", "every control", "drawn", "stopped"), strict=False))


def written_here(config, params, tokenizer, asked):
    """What `launch.py sample` prints of two texts of each prompt."""
    settings = dict(asked)
    stop, seed = settings.pop("stop", ()), settings.pop("seed", 0)
    texts = list(itertools.product(PROMPTS, range(2)))
    requests = [
        Prompt(np.array([tokenizer.separator, *tokenizer.encode([prompt])[0]], np.int32), sample)
        for prompt, sample in texts
    ]
    found = generate(
        config, params, requests, Controls(**settings), most_tokens=32, seed=seed, end=tokenizer.separator,
        known=tokenizer.vocabulary, stops=stop_texts(stop, tokenizer.decode), batch=4,
    )  # fmt: skip
    answers = [before_stop(tokenizer.decode(one.tokens.tolist()), stop) for one in found]
    return "\n".join(
        f"--- {number} of 4\n{prompt}{answer}\n"
        for number, ((prompt, _), answer) in enumerate(zip(texts, answers, strict=True), 1)
    )


ALONE = """
import contextlib, io, json, runpy, sys
class NumpyAlone:
    def find_spec(self, name, *_):
        if name.partition(".")[0] not in {"numpy", *sys.stdlib_module_names}:
            raise ImportError(f"{name}: only numpy is here")
sys.meta_path.insert(0, NumpyAlone())
said = []
for folder, arguments in json.load(sys.stdin):
    sys.argv = ["run.py", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(folder + "/run.py", run_name="__main__")
    said.append(out.getvalue())
used = {name.partition(".")[0] for name in sys.modules}
json.dump([said, sorted(used & {"jax", "flax", "tokenizers", "scipy", "core", "model"})], sys.stdout)
"""


def test_with_numpy_alone_the_text_is_the_same(models, folders):
    asked, expected = [], []
    for name, how in TRIED.items():
        config, params, _, tokenizer = models[name]
        settings = ASKED[how]
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items() if key != "stop"]
        flags += ["--stop", *settings["stop"]] if "stop" in settings else []
        asked.append((str(folders / name), ["--prompt", *PROMPTS, "--samples=2", "--max-tokens=32", *flags]))
        expected.append(written_here(config, params, tokenizer, settings))
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, others = json.loads(done.stdout)
    assert others == []
    for (folder, arguments), found, wanted in zip(asked, said, expected, strict=True):
        assert found == wanted, (folder, arguments)


def test_its_logits_are_the_network_s_at_every_position(models, folders):
    for name, (config, params, _, _) in models.items():
        program = run.Model(folders / name / "model.npz")
        tokens = np.random.default_rng(0).integers(0, config.vocabulary, 24)
        whole = np.asarray(Transformer(config, params)(jnp.asarray(tokens)[None])[0])
        program.empty(24)
        found = np.concatenate([program.logits(tokens[:9]), *(program.logits([one]) for one in tokens[9:])])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, whole, atol=2e-5 * np.abs(whole).max())


def test_weights_in_half_the_bytes_are_bfloat16(models, tmp_path):
    model = models["grouped"]
    load("two-files").write(exported(*model), tmp_path, "bfloat16")
    program = run.Model(tmp_path / "model.npz")
    for name, array in program.weights.items():
        if name.startswith("blocks."):
            rounded = model[1]["blocks"][name.removeprefix("blocks.")].astype(jnp.bfloat16).astype(jnp.float32)
            np.testing.assert_array_equal(array, rounded)


def random_text(generator):
    letters = [
        range(32, 127),
        (9, 10, 13, 32, 32),
        (0x27, 0x73, 0x74, 0x72, 0x65, 0x6C, 0x20),
        range(1, 0xD800),
    ]
    letters += [range(0x10000, 0x20000), range(0xE000, 0x110000)]
    return "".join(chr(generator.choice(generator.choice(letters))) for _ in range(120))


@pytest.mark.parametrize("kind", KINDS)
def test_its_tokenizer_is_the_library_s_on_any_text(kind):
    tokenizer, generator = make(kind, DOCUMENTS), random.Random(0)
    found = tables(kind.partition(":")[0], tokenizer.to_json(), tokenizer.vocabulary, "key")
    program = run.TableTokenizer(found.about, found.arrays)
    texts = [
        *DOCUMENTS,
        *(random_text(generator) for _ in range(200)),
        "\x1c\x85\u2028  \u0897²",
        " 's'll 'x",
        "",
        "\ufffd",
    ]
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        assert program.encode(text) == ids.tolist(), repr(text)
        assert program.decode(ids) == tokenizer.decode(ids.tolist())
    for _ in range(200):  # tokens that no text gives: bytes that are no UTF-8
        ids = [generator.randrange(tokenizer.vocabulary) for _ in range(20)]
        assert program.decode(ids) == tokenizer.decode(ids)


def test_its_random_numbers_are_jax_s():
    key = np.zeros(1, np.uint32), np.array([2**31 - 1], np.uint32)
    theirs = jax.random.key(2**31 - 1)
    for number in (0, 7, 2**32 - 1):
        key, theirs = run.threefry(key, [number]), jax.random.fold_in(theirs, np.uint32(number))
        np.testing.assert_array_equal(np.concatenate(key), jax.random.key_data(theirs))
    np.testing.assert_allclose(run.gumbel(key, 1000), jax.random.gumbel(theirs, (1000,)), rtol=1e-5, atol=1e-6)


def test_the_program_is_at_most_200_lines():
    assert len(PROGRAM.read_text().splitlines()) <= 200


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer="),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "pre_tokenizer="),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a"}}}, "pre_tokenizer="),
        ({"decoder": None}, "decoder=null"),
        ({"model": {"type": "Unigram"}}, 'model.type="Unigram"'),
        ({"model": {"ignore_merges": True}}, "model.ignore_merges=true"),
        ({"added_tokens": [{"id": 3, "content": "<a>", "special": False}]}, 'added_tokens="<a>"'),
    ],
)
def test_a_tokenizer_that_the_program_cannot_follow_is_refused(change, told):
    file = json.loads(make("bpe:300", DOCUMENTS).to_json())
    changed = {name: file[name] | value if name == "model" else value for name, value in change.items()}
    with pytest.raises(BadInput) as refused:
        tables("file", json.dumps(file | changed), 300, "data.tokenizer='file:a'")
    assert str(refused.value).startswith(f"data.tokenizer='file:a': {told}")


def test_bad_flags_and_damaged_weights_are_one_line(folders, tmp_path):
    damaged = bytearray((folders / "plain" / "model.npz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "model.npz").write_bytes(damaged)
    (tmp_path / "run.py").write_bytes(PROGRAM.read_bytes())
    for folder, flags, told in (
        (folders / "plain", ["--top-p=2"], "top_p=2.0: must be"),
        (folders / "plain", ["--stop", ""], "stop=''"),
        (tmp_path, [], "model.npz: cannot be read (Bad CRC-32"),
    ):
        done = subprocess.run(
            [sys.executable, "-I", folder / "run.py", *flags], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and told in done.stderr, done.stderr
