"""How runs were trained, as a paragraph for a paper: of all runs of a report, or of the one on a model's card."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from core.numbers import finite, short_count
from core.numbers import number as said_number

MOST_NAMED = 4  # values of a field that are listed; more are a range
PACKAGES = ("jax", "flax", "optax")
UNKNOWN = "not recorded"


@dataclasses.dataclass(frozen=True)
class MethodsOfRun:
    """What a run's records say of how it was trained, however much of it there is.

    Attributes:
      spec, env: the records as trees; {} for one that is not there.
      params: non-embedding parameters and the head.
      tokens: D.
      corpus_tokens: of the train split. epochs: passes over it.
      trunk: whether other runs branch off it.
    """

    spec: Mapping[str, Any]
    env: Mapping[str, Any]
    params: float | None
    tokens: float | None
    corpus_tokens: float | None = None
    epochs: float | None = None
    trunk: bool = False


def methods(runs: Sequence[MethodsOfRun], usable: Sequence[MethodsOfRun] = ()) -> str:
    """Corpus, tokens, epochs, tokenizer, context, optimizer, schedule, seeds, commit, versions and machine.

    Args:
      runs: the complete ones, trunks too. usable: those that fits take.
    """
    ends = list(usable) or list(runs)
    data, optim = _of(ends, "data"), _of(ends, "optim")
    trunks = sum(run.trunk for run in runs)
    sizes = _range(run.params for run in ends)
    several = len(ends) > 1
    decay = optim("decay")
    said = [
        f"We trained {len(ends) if several else 'one'} {_of(ends, 'model')('architecture', 'decoder')} "
        f"transformer{'s' if several else ''} of {sizes} parameters "
        f"(without the embedding table, with the head) on {_range(run.tokens for run in ends)} tokens of "
        f"{_text(ends)}{_corpus_tokens(ends)}, {_epochs(ends)}.",
        *_began(ends),
        f"Text was tokenized by {data('tokenizer')} (vocabulary {_of(ends, 'model')('vocabulary')}) and cut into "
        f"contexts of {data('sequence_length')} tokens; a step read {_field(ends, 'batch_tokens')} tokens.",
        f"The optimizer was {optim('name', 'adamw')} (peak learning rate {_range_of(ends, 'optim', 'learning_rate')}, "
        f"beta1 {optim('beta1')}, beta2 {optim('beta2')}, weight decay {optim('weight_decay')}"
        f"{'' if decay == UNKNOWN else ' ' + decay + ' to the learning rate' if decay == 'coupled' else ', ' + decay}, "
        f"gradients clipped at norm {optim('clip_norm')}).",
        f"The learning rate followed the schedule {optim('schedule')}: warmup over "
        f"{_range_of(ends, 'optim', 'warmup_tokens', short_count)} tokens, and a last cooldown over "
        f"{_range_of(ends, 'optim', 'cooldown_tokens', short_count)} tokens"
        + (
            f"; runs of one size branch off {trunks} shared trunks at constant learning rate."
            if trunks
            else "."
        ),
        f"{_seeds(ends)}. Loss is measured on {data('validation_tokens')} held-out tokens.",
        _code(runs),
    ]
    return " ".join(said)


def _text(runs: Sequence[MethodsOfRun]) -> str:
    """The corpus that was trained on, or the mixture of several."""
    mixed = [run for run in runs if _at(run.spec, "data", "mixture")]
    plain = [run for run in runs if run not in mixed]
    said = [_field(mixed, "data", "mixture")] if mixed else []
    return " or ".join([*said, *([_field(plain, "data", "corpus")] if plain or not mixed else [])])


def _began(runs: Sequence[MethodsOfRun]) -> list[str]:
    """A sentence on what later stages began with; none where all began with random weights."""
    later = [run for run in runs if run.spec.get("start")]
    if not later:
        return []
    stages = [
        stage for run in later for stage in (run.env.get("lineage") or [])[-1:] if isinstance(stage, Mapping)
    ]
    learned = list(dict.fromkeys(f"{stage.get('objective')} on {stage.get('corpus')}" for stage in stages))
    before = (
        f"{' or '.join(learned[:MOST_NAMED])}, {_range(finite(stage.get('tokens')) for stage in stages)} tokens"
    )
    who = "It" if len(runs) == 1 else "All" if len(later) == len(runs) else f"{len(later)} of them"
    return [
        f"{who} began with the final weights of another run, with a fresh optimizer ({before if stages else UNKNOWN})."
    ]


def _of(runs: Sequence[MethodsOfRun], group: str) -> Callable[..., str]:
    return lambda name, default=None: _field(runs, group, name, default=default)


def _values(runs: Iterable[MethodsOfRun], *keys: str, default: Any = None) -> list[Any]:
    found = [_at(run.spec, *keys) for run in runs]
    return list(dict.fromkeys(str(default if value is None else value) for value in found))


def _field(runs: Sequence[MethodsOfRun], *keys: str, default: Any = None) -> str:
    """Every value that runs have of a field; a field that none of them records is said not to be."""
    found = [value for value in _values(runs, *keys, default=default) if value != "None"]
    whole = [_whole(value) for value in found]
    if not found:
        return UNKNOWN
    if len(found) > MOST_NAMED:
        return f"{', '.join(whole[:MOST_NAMED])} and {len(found) - MOST_NAMED} more"
    return " or ".join(whole)


def _whole(value: str) -> str:
    return f"{int(value):,}" if value.isdecimal() else value


def _range_of(
    runs: Sequence[MethodsOfRun], group: str, name: str, said: Callable[[float], str] = said_number
) -> str:
    return _range((finite(_at(run.spec, group, name)) for run in runs), said)


def _range(values: Iterable[float | None], said: Callable[[float], str] = short_count) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return UNKNOWN
    ends = list(dict.fromkeys((said(min(known)), said(max(known)))))
    return " to ".join(ends)


def _corpus_tokens(runs: Sequence[MethodsOfRun]) -> str:
    held = [run.corpus_tokens for run in runs if run.corpus_tokens]
    return f" (a train split of {_range(held)} tokens)" if held else ""


def _epochs(runs: Sequence[MethodsOfRun]) -> str:
    known = [run.epochs for run in runs if run.epochs is not None]
    if len(known) < len(runs) or not known:
        return "epochs not recorded"
    most = max(known)
    return f"up to {said_number(most)} epochs" if most > 1 else f"at most {said_number(most)} of an epoch"


def _seeds(runs: Sequence[MethodsOfRun]) -> str:
    found = sorted({value for run in runs if (value := finite(_at(run.spec, "seed"))) is not None})
    if not found:
        return "Seeds are not recorded"
    names = ", ".join(f"{value:g}" for value in found[:MOST_NAMED]) + (
        ", ..." if len(found) > MOST_NAMED else ""
    )
    return f"{len(found)} seed{'s' if len(found) > 1 else ''} of initialization and data order ({names})"


def _code(runs: Sequence[MethodsOfRun]) -> str:
    """Commit, versions and machine, as the attempts recorded them."""
    last = [attempts[-1] for run in runs if isinstance(attempts := _at(run.env, "attempts"), list) and attempts]
    last = [one for one in last if isinstance(one, dict)]

    def each(name: str) -> str:
        found = list(dict.fromkeys(str(one[name]) for one in last if one.get(name)))
        return " or ".join(found[:MOST_NAMED]) + (" or others" if len(found) > MOST_NAMED else "") or UNKNOWN

    packages = [one["packages"] for one in last if isinstance(one.get("packages"), dict)]
    versions = [
        f"{name} {' or '.join(dict.fromkeys(str(one[name]) for one in packages if name in one))}"
        for name in PACKAGES
        if any(name in one for one in packages)
    ]
    commits = list(dict.fromkeys(str(run.env["commit"]) for run in runs if run.env.get("commit")))
    commit = " or ".join(one[:12] for one in commits[:MOST_NAMED]) or UNKNOWN
    devices = _range((finite(one.get("devices")) for one in last), lambda count: f"{count:g}")
    return (
        f"Code: commit {commit}; Python {each('python')}{', ' if versions else ''}{', '.join(versions)}. Machine: "
        f"{each('device')}, {devices} device{'' if devices == '1' else 's'} a run, platform {each('platform')}."
    )


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree
