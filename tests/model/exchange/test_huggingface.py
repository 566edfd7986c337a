"""The layout of transformers without torch: a second reader, in float64 NumPy, computes the same from its files alone.

tests/model/exchange/test_parity.py compares with transformers itself.
"""

import dataclasses
import json
import struct

import jax
import ml_dtypes
import numpy as np
import pytest
import tokenizers as library
from safetensors.numpy import load_file, save_file

from core.errors import BadInput
from data import tokenizers
from model import exchange
from model.exchange import huggingface
from model.exchange.huggingface.read import read_folder
from model.exchange.huggingface.tokenizer import byte_letters, undecorated
from model.transformer import Transformer
from tests.support import numpy_reference
from tests.support.exchange import BASE, KINDS, NETWORKS, TEXTS, exported

SMALL = dataclasses.replace(BASE, vocabulary=300, width=16, depth=2, head_width=4)


def written(folder, model, dtype="float32"):
    folder.mkdir(parents=True, exist_ok=True)
    huggingface.write(model, folder, dtype)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small export, to be copied and damaged."""
    return written(tmp_path_factory.mktemp("whole"), exported(SMALL))


@pytest.fixture
def folder(whole, tmp_path):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(path, **entries):
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, **entries}))


def by_its_files(folder, tokens):
    """Logits of what a folder holds by the published names and the conventions of torch, in float64 (B, T, V)."""
    config = json.loads((folder / "config.json").read_text())
    arrays = {name: array.astype(np.float64) for name, array in load_file(folder / "model.safetensors").items()}
    ours = {
        "attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm",
        "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj",
        "attention_output": "self_attn.o_proj", "query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm",
        "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
    }  # fmt: skip
    layers = range(config["num_hidden_layers"])
    blocks = {
        name: np.stack([arrays[f"model.layers.{layer}.{theirs}.weight"].T for layer in layers])
        for name, theirs in ours.items()
        if f"model.layers.0.{theirs}.weight" in arrays
    }
    used = 2 + len(blocks) * len(layers) + (not config["tie_word_embeddings"])
    assert len(arrays) == used, "an array that nobody reads"
    params = {
        "embedding": arrays["model.embed_tokens.weight"],
        "blocks": blocks,
        "final_norm": arrays["model.norm.weight"],
    }
    if not config["tie_word_embeddings"]:
        params["head"] = arrays["lm_head.weight"]
    assert config["model_type"] == ("qwen3" if "query_norm" in blocks else "llama")
    network = dataclasses.replace(
        BASE,
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_width=config["head_dim"],
        ff_width=config["intermediate_size"],
        tied=config["tie_word_embeddings"],
        qk_norm=config["model_type"] == "qwen3",
        rope_base=config["rope_theta"],
        norm_epsilon=config["rms_norm_eps"],
    )
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": config["rope_theta"]}
    return numpy_reference.loss_and_gradients(network, params, tokens, tokens, 0.0)[2]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_files_alone_give_the_logits_of_the_network_its_multipliers_included(name, tmp_path):
    config = NETWORKS[name]
    model = exported(config)
    folder = written(tmp_path, model)
    tokens = np.random.default_rng(1).integers(0, config.vocabulary, (2, 11)).astype(np.int32)
    ours = jax.jit(lambda params: Transformer(config, params)(tokens))(model.params)
    theirs = by_its_files(folder, tokens)
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=3e-5, rtol=0)
    assert np.abs(theirs).max() > 2, "logits near zero would hide a lost factor"
    found = read_folder(folder)
    assert found.network.network.parametrization == "standard" and found.network.context == 200
    back = jax.jit(lambda params: Transformer(found.network.network, params)(tokens))(found.params)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(back), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", huggingface.DTYPES)
def test_what_is_read_back_and_written_again_has_the_same_bytes(dtype, tmp_path):
    first = written(tmp_path / "first", exported(NETWORKS["mup, llama"]), dtype)
    found = read_folder(first)
    again = dataclasses.replace(exported(found.network.network), params=found.params)
    second = written(tmp_path / "second", again, dtype)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
    kinds = {array.dtype for array in load_file(first / "model.safetensors").values()}
    assert kinds == {np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32)}
    assert json.loads((first / "config.json").read_text())["torch_dtype"] == dtype


def test_several_files_and_their_index_are_read_as_one(folder):
    found = read_folder(folder)
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(arrays)
    places = {name: f"model-0000{1 + place % 3}-of-00003.safetensors" for place, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: arrays[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert read_folder(folder).sha256 == found.sha256
    (folder / places[names[0]]).unlink()
    with pytest.raises(BadInput, match="which is not there"):
        read_folder(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_reads_and_writes_every_text_as_ours_does(kind):
    """Texts that it was trained on, random Unicode, and every string of bytes or ids, whole characters or not."""
    model = exported(SMALL, kind)
    ours = tokenizers.load(kind, model.tokenizer_json)
    content, settings = huggingface.tokenizer_files(model)
    theirs = library.Tokenizer.from_str(content)
    draw = np.random.default_rng(0)
    letters = [*range(1, 0x250), *range(0x4E00, 0x4E40), 0x1F600]
    texts = [*TEXTS, "Ā\u0100 \xad", *("".join(map(chr, draw.choice(letters, 40))) for _ in range(100))]
    for text in texts:
        ids = ours.encode([text])[0].tolist()
        assert theirs.encode(text, add_special_tokens=False).ids == ids
        assert theirs.encode(text).ids == [model.end, *ids]
        assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids)
    strings = [draw.integers(0, model.vocabulary, draw.integers(1, 9)).tolist() for _ in range(1000)]
    if kind == "byte":
        strings += [[first, second] for first in range(256) for second in range(0, 256, 7)]
    for ids in strings:
        assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids), ids
    assert theirs.token_to_id(settings["eos_token"]) == model.end == theirs.token_to_id(settings["bos_token"])
    assert json.loads(undecorated(content, kind) or "{}") == json.loads(model.tokenizer_json or "{}")


def test_letters_of_bytes_are_those_of_the_library():
    assert set(byte_letters()) == set(library.pre_tokenizers.ByteLevel.alphabet())
    assert byte_letters()[ord("A")] == "A" and byte_letters()[0] == "Ā" and byte_letters()[ord(" ")] == "Ġ"


def test_rows_that_no_token_has_are_never_generated(tmp_path):
    folder = written(tmp_path, exported(SMALL))
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["suppress_tokens"] == list(range(256, 300)) and generation["eos_token_id"] == 0


@pytest.mark.parametrize(
    ("field", "value"), [("activation", "gelu"), ("logit_softcap", 30.0), ("architecture", "parallel")]
)
def test_networks_without_an_exact_layout_are_refused_by_name(field, value, tmp_path):
    config = dataclasses.replace(SMALL)
    object.__setattr__(config, field, value)  # an architecture that somebody adds
    with pytest.raises(BadInput, match=rf"model\.{field}={value}"):
        huggingface.refuse(config)


def test_a_block_with_an_array_more_is_not_exported_without_it(tmp_path):
    model = exported(SMALL)
    blocks = {**model.params["blocks"], "shift": np.zeros((2, 16), np.float32)}
    with pytest.raises(BadInput, match="shift"):
        huggingface.write(
            dataclasses.replace(model, params={**model.params, "blocks": blocks}), tmp_path, "float32"
        )


def test_formats_are_files_found_by_their_place():
    assert "huggingface" in exchange.formats()
    with pytest.raises(BadInput, match=r"--format='gguf': must be one of .*huggingface"):
        exchange.load("gguf")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"model_type": "gemma2"}, "model_type='gemma2': must be qwen3 or llama"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "architectures=.*must be Qwen3ForCausalLM"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling=.*must be None"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type='yarn': must be default"),
        ({"rope_parameters": {"rope_type": "default", "factor": 4.0}}, "rope_parameters.factor=4.0"),
        ({"rope_theta": 5e5}, "rope_theta=.*must be one number"),
        ({"use_sliding_window": True}, "use_sliding_window=True: must be False"),
        ({"sliding_window": 64, "use_sliding_window": None}, "use_sliding_window=None"),
        (
            {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types=.*full_attention in every layer",
        ),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu': must be 'silu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
        ({"rms_norm_eps": "small"}, "rms_norm_eps='small': must be a number"),
        ({"rms_norm_eps": 2.0}, "norm_epsilon=2.0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0: must be a whole number"),
        ({"num_key_value_heads": 3}, "kv_heads=3: must divide"),
        ({"hidden_size": 10**9, "intermediate_size": 10**9}, "1e.13"),
        ({"head_dim": 3}, "head_width=3: must be even"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings='yes'"),
        ({"intermediate_size": 24}, r"has the shape \(48, 16\); config.json asks for \(24, 16\)"),
        ({"num_hidden_layers": 3}, "lack model.layers.2.input_layernorm.weight and 10 more"),
        ({"num_hidden_layers": 1}, "hold model.layers.1.input_layernorm.weight and 10 more"),
        ({"tie_word_embeddings": False}, "lack lm_head.weight"),
    ],
)
def test_a_network_that_is_not_computed_here_is_refused_by_its_key(folder, entries, said):
    change(folder / "config.json", **entries)
    with pytest.raises(BadInput, match=said) as refused:
        read_folder(folder)
    assert "\n" not in str(refused.value)


def spoil_weights(how):
    def damage(folder):
        path = folder / "model.safetensors"
        payload = path.read_bytes()
        (length,) = struct.unpack("<Q", payload[:8])
        path.write_bytes(how(payload, length))

    return damage


def with_array(name, array):
    def damage(folder):
        save_file({**load_file(folder / "model.safetensors"), name: array}, folder / "model.safetensors")

    return damage


def remove(name):
    return lambda folder: (folder / name).unlink()


def pickled(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04}.")


def index(**entries):
    def damage(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(entries))

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (spoil_weights(lambda payload, length: b""), "damaged"),
        (spoil_weights(lambda payload, length: payload[:-5]), "damaged"),
        (spoil_weights(lambda payload, length: payload[: length // 2]), "damaged"),
        (spoil_weights(lambda payload, length: struct.pack("<Q", 1 << 62) + payload[8:]), "damaged"),
        (spoil_weights(lambda payload, length: payload[:8] + b"{" * length + payload[8 + length :]), "damaged"),
        (
            spoil_weights(lambda payload, length: payload.replace(b'"F32"', b'"I32"')),
            "is I32; must be one of F32",
        ),
        (
            with_array("model.layers.0.self_attn.q_proj.bias", np.zeros(16, np.float32)),
            "biases are not computed",
        ),
        (with_array("model.norm.weight", np.full(16, np.nan, np.float32)), "numbers that are not finite"),
        (with_array("model.norm.weight", np.ones(15, np.float32)), r"has the shape \(15,\)"),
        (pickled, "pytorch_model.bin is a pickle"),
        (remove("config.json"), "config.json: no such file"),
        (remove("tokenizer.json"), "holds no tokenizer.json"),
        (index(), "has no weight_map"),
        (index(weight_map={"a": "../../etc/passwd.safetensors"}), "must be a safetensors file of this folder"),
        (index(weight_map={"a": "model.bin"}), "must be a safetensors file"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(folder, damage, said):
    damage(folder)
    with pytest.raises(BadInput, match=said) as refused:
        read_folder(folder)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400 + len(str(folder))


def test_no_code_of_a_folder_is_run(folder):
    (folder / "modeling.py").write_text("raise SystemExit('run')\n")
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling.Net"})
    assert read_folder(folder).network.network.width == 16
