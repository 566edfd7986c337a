"""The command lines that there are: flags, with values that are right for each."""

from typing import NamedTuple

# Fields of a run with values that are right, which the faults replace.
SETTINGS = {
    "model.width": ["32", "64"],
    "model.depth": ["1", "3"],
    "model.heads": ["1", "2"],
    "model.kv_heads": ["1"],
    "model.head_width": ["0", "8"],
    "model.ff_width": ["0", "24"],
    "model.vocabulary": ["256", "300"],
    "model.activation": ["gelu", "swiglu"],
    "model.tied": ["true", "false"],
    "model.qk_norm": ["false"],
    "model.logit_softcap": ["0", "30"],
    "model.rope_base": ["10000"],
    "model.norm_epsilon": ["1e-6"],
    "model.compute_dtype": ["bfloat16"],
    "model.remat": ["block"],
    "model.scan": ["true"],
    "model.parametrization": ["mup"],
    "model.architecture": ["decoder"],
    "data.domain": ["all", "code"],
    "data.tokenizer": ["byte", "char", "bpe:300", "word:100"],
    "data.sequence_length": ["64", "128"],
    "data.validation_tokens": ["4096"],
    "data.unique_tokens": ["0", "65536"],
    "data.skills": ["copying@0.1", "dyck@.05"],
    "data.skill_tokens": ["100000"],
    "optim.learning_rate": ["0.003", "1e-4"],
    "optim.beta1": ["0.9", "0"],
    "optim.beta2": ["0.95", "0.999"],
    "optim.epsilon": ["1e-8"],
    "optim.weight_decay": ["0", "0.1"],
    "optim.decay_all": ["true"],
    "optim.clip_norm": ["0", "1"],
    "optim.decay": ["coupled"],
    "optim.name": ["adamw", "muon"],
    "optim.cooldown_shape": ["linear"],
    "optim.final_fraction": ["0.1"],
    "optim.z_loss": ["1e-4"],
    "seed": ["0", "7"],
    "tasks": ['["copying"]', "[]"],
    "task_items": ["10"],
    "objective": ["next_token"],
}


class Flag(NamedTuple):
    """A flag and values that are right for it; no values for a switch."""

    name: str
    values: tuple[str, ...] = ()
    kind: str = "text"  # or number, file, out


class Shape(NamedTuple):
    """A command: how it is called, its arguments by place, what it needs and what it may have."""

    call: str
    places: tuple[str, ...]
    needed: tuple[Flag, ...] = ()
    flags: tuple[Flag, ...] = ()
    weight: float = 4


def number(name: str, *values: str) -> Flag:
    return Flag(name, values, "number")


def file(name: str, *values: str) -> Flag:
    return Flag(name, values, "file")


COMMON = (
    Flag("--set"),
    Flag("--name", ("own", "größe")),
    file("--runs", "@out"),
    Flag("--corpus", ("text:@corpus", "pysource")),
)
OF_GRIDS = (number("--seeds", "1", "2"), number("--tokens", "65536", "131072 262144"), Flag("--no-trunk"))
PLANS = (
    number("--workers", "1", "2"),
    number("--cores-per-worker", "1"),
    Flag("--pack", ("auto", "off", "4")),
    Flag("--device", ("NVIDIA_H100",)),
    file("--throughput", "@missing"),
    number("--target", "1e15", "1e16"),
    number("--noise", "0.01"),
    file("--prior", "@fit.json"),
    Flag("--device-memory", ("80GiB", "1TiB")),
    Flag("--mesh", ("data=2", "fsdp=2,data=1")),
    number("--price", "2.5"),
    Flag("--json"),
)
SUBMITS = (
    Flag("--backend", ("slurm", "skypilot", "jobset")),
    file("--site", "@site.toml"),
    Flag("--partition", ("gpu",)),
    Flag("--account", ("me",)),
    Flag("--time", ("60", "2:00:00")),
    number("--gpus", "0", "1"),
    number("--nodes", "1", "2"),
    number("--tasks", "1"),
    number("--cpus", "2"),
    number("--throttle", "4"),
    Flag("--pack", ("off", "2")),
    number("--checkpoint-seconds", "60"),
    Flag("--json"),
)
STUDIES: dict[str, tuple[Flag, ...]] = {
    "quickstart": (number("--sizes", "2", "5"), file("--rule", "@rule.json"), *OF_GRIDS),
    "chinchilla": (
        number("--params", "1e4 3e4", "2e4"),
        number("--most-flops", "0", "1e13"),
        number("--batch-tokens", "1024", "2048"),
        number("--sequence-length", "64"),
        Flag("--preset", ("cpu", "h100")),
        *OF_GRIDS,
    ),
    "isoflop": (
        number("--budgets", "1e11 2e11"),
        number("--step", "1.6"),
        number("--tokens-per-param", "30"),
        number("--sizes", "4"),
        file("--rule", "@rule.json"),
    ),
    "kaplan": (number("--params", "1e4 3e4"), *OF_GRIDS),
    "data_constrained": (number("--unique-tokens", "32768 0"), number("--params", "1.1e4"), *OF_GRIDS),
    "depth_width": (number("--params", "3.4e4"), number("--depths", "1 2"), *OF_GRIDS),
    "tokenizer": (
        Flag("--tokenizers", ("byte char", "bpe:512")),
        number("--budgets", "1e11"),
        number("--widths", "32"),
        number("--characters", "256"),
    ),
    "tune": (
        number("--widths", "32 64"),
        number("--rates", "0.001 0.01"),
        number("--depth", "2"),
        Flag("--parametrization", ("mup", "standard")),
    ),
    "lr_transfer": (number("--rates", "0.01"), number("--base-width", "64"), number("--depth", "2")),
    "learning_rate": (number("--factors", "0.5 1"), number("--widths", "16 32"), number("--tokens", "65536")),
    "emergence": (
        number("--widths", "16 32"),
        number("--depths", "1 2"),
        number("--items", "10"),
        number("--evaluations", "2"),
        Flag("--tasks", ("copying", "dyck")),
        Flag("--skills", ("copying@0.1",)),
        number("--learning-rate-exponent", "0", "0.3"),
        number("--head-width", "0", "8"),
    ),
    "forecast": (number("--sizes", "3"), number("--tokens", "65536 131072")),
    "planned": (file("--plan", "@plan.json"), number("--batch-tokens", "1024")),
}
TABLE_FLAGS = (
    Flag("--law", ("chinchilla", "kaplan", "power_flops_floor", "overtrained", "data_constrained")),
    Flag("--robust", ("huber", "l1", "l2")),
    number("--delta", "1e-3"),
    Flag("--space", ("log", "linear")),
    number("--drop-worst", "0", "2"),
    number("--bootstrap", "0", "10"),
    Flag("--cluster", ("run",)),
    Flag("--wild"),
    number("--level", "0.9"),
    number("--seed", "1"),
    Flag("--fix", ("E=1.7", "alpha=0.3")),
    Flag("--column", ("loss=loss", "params=params")),
    file("--out", "@out"),
)
AT = (number("--params", "1e7"), number("--tokens", "1e8"))
COMMANDS = [
    *(Shape(f"launch plan {name}", (), (), (*own, *PLANS, *COMMON)) for name, own in STUDIES.items()),
    *(
        Shape(
            f"launch run {name}",
            (),
            (Flag("--dry-run"),),
            (
                *own,
                number("--workers", "1"),
                number("--checkpoint-seconds", "30"),
                Flag("--profile"),
                Flag("--pack", ("off",)),
                *COMMON,
            ),
            1,
        )
        for name, own in STUDIES.items()
    ),
    *(
        Shape(
            f"launch submit {name}",
            (),
            (Flag("--dry-run"), file("--runs", "@out")),
            (*own, *SUBMITS, *COMMON[:2]),
            2,
        )
        for name, own in list(STUDIES.items())[:6]
    ),
    Shape(
        "launch plan",
        (),
        (number("--budget", "1e12", "5e12"), number("--target", "1e14")),
        (
            number("--runs-at-most", "8"),
            number("--seeds", "1", "2"),
            Flag("--structure", ("runs", "trunks", "auto")),
            number("--noise", "0.01"),
            file("--prior", "@fit.json"),
            number("--tokens-per-param", "20"),
            file("--out", "@out"),
            Flag("--json"),
        ),
        2,
    ),
    Shape(
        "launch plan",
        ("@sweep",),
        (number("--next", "2"), number("--target", "1e13")),
        (number("--noise", "0.01"), Flag("--json"), number("--seeds", "1")),
        2,
    ),
    Shape("launch status", ("@sweep",), (), (Flag("--json"),), 16),
    Shape("launch doctor", ("@sweep",), (), (Flag("--json"), Flag("--no-repair")), 16),
    Shape("launch cancel", ("@sweep",), (), (), 4),
    Shape(
        "launch backfill",
        ("@missing",),
        (Flag("--tasks", ("copying", "file:@own_tasks.jsonl")),),
        (number("--items", "5"),),
        2,
    ),
    Shape("analysis.fit", ("@table.csv",), (), TABLE_FLAGS, 30),
    Shape("analysis.fit", ("@table.jsonl",), (), TABLE_FLAGS, 10),
    Shape("analysis.fit", ("@sweep",), (), TABLE_FLAGS, 6),
    Shape(
        "analysis.isoflop",
        ("@valleys.csv",),
        (file("--out", "@out"), number("--bootstrap", "0", "10")),
        (
            Flag("--method", ("parabola", "cubic", "akima", "hull", "envelope")),
            Flag("--noise-unit", ("relative", "nats")),
            number("--window", "3"),
            number("--exponent", "0.5"),
            number("--target-flops", "1e20", "1e20 1e21"),
            number("--level", "0.9"),
            Flag("--slices", ("auto",)),
            number("--tolerance", "0.1"),
            number("--min-points", "4"),
            number("--noise", "0.01"),
            number("--seed", "3"),
        ),
        16,
    ),
    Shape(
        "analysis.emergence",
        ("@tasks.csv",),
        (number("--bootstrap", "199"),),
        (
            file("--out", "@out"),
            Flag("--axis", ("params", "flops")),
            number("--w0", "1"),
            number("--alpha", "0.05"),
            number("--seed", "1"),
        ),
        6,
    ),
    Shape(
        "analysis.forecast",
        ("@fit.json",),
        (*AT, file("--out", "@out")),
        (Flag("--input", ("unique_tokens=1e8",)), number("--level", "0.8")),
        16,
    ),
    Shape(
        "analysis.score",
        ("@forecast.json", "@table.csv"),
        (file("--out", "@out"),),
        (number("--tolerance", "0.5"), file("--tally", "@out")),
        8,
    ),
    Shape(
        "analysis.downstream",
        ("@fit.json", "@fit.json"),
        (*AT, file("--out", "@out")),
        (number("--level", "0.8"), number("--seed", "1")),
        6,
    ),
    Shape("analysis.learning_rate", ("@sweep",), (), (file("--out", "@out"), file("--rule", "@out")), 10),
    Shape(
        "analysis.task_table",
        ("@sweep",),
        (file("--out", "@out"),),
        (Flag("--score", ("exact_match",)), Flag("--axis", ("tokens", "loss"))),
        8,
    ),
    Shape(
        "analysis.register",
        ("@sweep",),
        (number("--bootstrap", "0", "10"),),
        (Flag("--law", ("chinchilla", "best")), number("--level", "0.9"), number("--seed", "1")),
        4,
    ),
    Shape("analysis.report", ("@sweep",), (number("--bootstrap", "0"),), (number("--seed", "1"),), 0.5),
    Shape(
        "data.cache",
        (),
        (Flag("--corpus", ("text:@corpus", "text:@table.jsonl")),),
        (
            Flag("--tokenizer", ("byte", "char", "file:@object.json")),
            Flag("--domain", ("all",)),
            Flag("--verify"),
            number("--workers", "1"),
        ),
        4,
    ),
]
# Of these only what is refused, and a few of them in a process of their own: they train.
TRAINING = [
    Shape(
        "training.run",
        ("@missing",),
        (),
        (
            number("--checkpoint-seconds", "9"),
            number("--cores", "1"),
            Flag("--mesh", ("data=1",)),
            number("--processes", "2"),
            number("--process-index", "0"),
            Flag("--coordinator", ("localhost:1",)),
            Flag("--spec", ("{}",)),
        ),
    ),
    Shape("training.pack", ("@missing",), (), (number("--checkpoint-seconds", "9"), Flag("--spec", ("{}",)))),
    Shape("launch bench quickstart", (), (number("--seconds", "-1"),), (number("--workers", "1"),)),
    Shape("launch.py status", ("@sweep",)),
    Shape("launch.py run quickstart", (), (Flag("--dry-run"),), COMMON[:2]),
]
