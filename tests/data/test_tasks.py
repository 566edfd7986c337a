"""Every family of tasks: right answers by an independent computation, chance levels, sides, names."""

import collections
import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from data.tasks.controls import fact_table
from data.tasks.protocol import generator
from data.tasks.registry import families, load

NAMES = tuple(families())
HARDER = (
    "addition:digits=5,shots=2",
    "addition-reversed:digits=2",
    "multiplication:digits=3",
    "modular-arithmetic:modulus=113,operation=subtract",
    "modular-arithmetic:operation=multiply",
    "sparse-parity:bits=40,size=4",
    "associative-recall:pairs=16",
    "induction:length=30",
    "copying:length=20",
    "mapping:shots=0",
    "mapping:shots=8",
    "variable-binding:hops=3,chains=4",
    "variable-binding:hops=0",
    "dyck:depth=8,kinds=4",
    "listops:depth=3",
    "python-bracket:depth=5",
    "bigram:symbols=4",
)


def evaluate_listops(text: str) -> int:
    """An evaluator of its own, by a stack over tokens."""
    stack: list[list] = []
    for token in text.replace("[", " [ ").replace("]", " ] ").split():
        if token == "[":
            stack.append([])
            continue
        if token != "]":
            stack[-1].append(token if token.isalpha() else int(token))
            continue
        operation, *digits = stack.pop()
        ordered = sorted(digits)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2
        value = {"MAX": ordered[-1], "MIN": ordered[0], "MED": middle, "SUM": sum(ordered) % 10}[operation]
        if not stack:
            return value
        stack[-1].append(value)
    raise AssertionError(text)


def close_brackets(text: str) -> str:
    """What closes all brackets that `text` leaves open."""
    partner, waiting = {"(": ")", "[": "]", "{": "}", "<": ">"}, []
    for character in text:
        if character in partner:
            waiting.append(partner[character])
        elif character in partner.values():
            assert waiting.pop() == character
    return "".join(reversed(waiting))


def follow(text: str) -> str:
    """The value of a chain of assignments `a=4;c=a;c?`."""
    *lines, asked = text.rstrip("?").split(";")
    bound: dict[str, str] = {}
    for line in lines:
        name, value = line.split("=")
        bound[name] = bound.get(value, value)
    return bound[asked]


def solve(family: str, prompt: str, length: int | None = None) -> str | None:
    """The right answer worked out from the prompt alone; None where it is not determined by it."""
    prompt = prompt.split("\n")[-1] if not family.startswith("python-id") else prompt
    if family.startswith(("addition", "multiplication", "modular")):
        left, sign, right, modulus = re.fullmatch(r"[rs]?(\d+)([-+*])(\d+)%?(\d*)=", prompt).groups()
        value = {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}[sign]
        value = value % int(modulus) if modulus else value
        return str(value)[::-1] if family == "addition-reversed" else str(value)
    if family == "associative-recall":
        pairs, _, asked = prompt.partition("?")
        return dict(zip(pairs[::2], pairs[1::2], strict=True))[asked]
    if family == "induction":
        return prompt[prompt.index(prompt[-1]) + 1]
    if family in ("copying", "sorting", "reversal"):
        word = prompt.split()[1].rstrip(">")
        return {"copying": word, "sorting": "".join(sorted(word)), "reversal": word[::-1]}[family]
    if family.startswith("counting"):
        _, letter, _, word = prompt.rstrip("=").split(" ")
        return str(word.count(letter))
    if family == "mapping" and "," in prompt:
        first, asked = prompt.split()[1].split(",")[0], prompt.rstrip(">")[-1]
        shift = ord(first[2]) - ord(first[0])
        return chr((ord(asked) - ord("a") + shift) % 26 + ord("a"))
    if family.startswith("variable-binding"):
        return follow(prompt.lstrip(":"))
    if family == "dyck":
        return close_brackets(prompt.split()[1])
    if family == "listops":
        return str(evaluate_listops(prompt.rstrip("=")))
    if family == "python-bracket":
        return close_brackets(prompt)
    if family == "python-identifier":
        start = prompt.rpartition("(")[2]
        (name,) = re.findall(rf"^({start}\w+) =", prompt, re.MULTILINE)
        return name.removeprefix(start) + ")"
    if family == "python-sequence":
        terms = [int(term) for term in re.findall(r"\d+", prompt)]
        return f"{2 * terms[-1] - terms[-2]},"
    return None


@pytest.mark.parametrize("name", [*NAMES, *HARDER])
def test_answers_are_right(name):
    task = load(name)
    solved = 0
    for item in task.items(60):
        expected = solve(task.family, item.prompt)
        if expected is None:
            continue
        solved += 1
        if task.family.endswith("scratchpad"):
            assert re.split("[;:=]", item.target.strip())[-1] == expected
        else:
            assert item.target.strip() == expected
        assert item.target not in item.distractors
    undetermined = ("bigram", "facts", "grammar", "unscrambling", "sparse-parity", "sparse-parity-scratchpad")
    assert solved == 60 or task.family in undetermined or name == "mapping:shots=0"


@pytest.mark.parametrize("name", [*NAMES, *HARDER])
def test_items_differ_have_wrong_answers_and_are_a_prefix_of_more_items(name):
    task = load(name)
    items = task.items(80, seed=3)
    assert task.items(20, seed=3) == items[:20]
    assert len({task.key(item) for item in items}) == 80
    for item in items:
        assert item.distractors and item.target
        assert len({item.target, *item.distractors}) == 1 + len(item.distractors)
    if not task.memorised:
        assert task.items(20, seed=4) != items[:20]


@pytest.mark.parametrize("name", [*NAMES, "addition:digits=1", "modular-arithmetic:modulus=11"])
def test_no_document_of_the_training_side_holds_a_held_out_problem(name):
    task = load(name)
    documents = task.documents(seed=0)
    trained = {next(documents) for _ in range(3000)}
    held_out = {item.prompt + item.target for item in task.items(8)}
    if task.memorised:
        assert any(document in held_out for document in trained)
        return
    assert not any(document.startswith(tuple(held_out)) for document in trained)


def test_facts_asked_as_the_text_has_them_follow_zipf_and_keep_the_same_table():
    alike, text = load("facts:facts=50"), load("facts:facts=50,asked=text")
    answers = {item.prompt: item.target for item in alike.items(50)}
    asked = text.items(4000)
    assert len(answers) == 50
    assert all(answers[item.prompt] == item.target for item in asked)
    count = collections.Counter(item.prompt for item in asked)
    harmonic = sum(1 / rank for rank in range(1, 51))
    for rank, (name, _) in enumerate(fact_table(50, 2), start=1):
        share = 1 / (rank * harmonic)
        assert abs(count[f"fact {name}:"] - 4000 * share) < 5 * (4000 * share) ** 0.5
    # Who knows the form alone does best with the commonest value, weighted as it is asked for.
    assert text.guess == pytest.approx(1 / harmonic)
    assert text.items(20) == asked[:20]


def test_sides_share_the_problems_out_one_to_seven():
    task = load("addition:digits=4")
    chance = random.Random(0)
    sides = collections.Counter(task.side(task.draw(chance)) for _ in range(8000))
    assert sides["held_out"] / 8000 == pytest.approx(1 / 8, abs=4 * (7 / 64 / 8000) ** 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_guess_is_what_the_best_constant_answer_reaches(name):
    """The commonest answer is no better than `guess` allows, within 4 standard errors of the sample."""
    task = load(name)
    chance = generator("guess test", name)
    n = 4000
    commonest = collections.Counter(task.draw(chance).target for _ in range(n)).most_common(1)[0][1] / n
    tolerance = 4 * (max(task.guess, 1 / n) / n) ** 0.5 + 1 / n
    if task.family in ("listops", "grammar"):  # 0 and 9 are likelier than other digits
        tolerance += 0.1
    if task.family == "bigram":
        return  # its letters are not alike; the chain's own probabilities are tested below
    assert commonest <= task.guess + tolerance


def test_a_bigram_word_follows_its_table():
    from data.tasks.controls import LETTERS, transition_table

    task, counts = load("bigram:symbols=4"), collections.Counter()
    chance = random.Random(5)
    for _ in range(400):
        word = task.word(60, chance)
        counts.update(itertools.pairwise(word))
    for first, row in enumerate(transition_table(4)):
        total = sum(counts[LETTERS[first], LETTERS[second]] for second in range(4))
        for second, probability in enumerate(row):
            seen = counts[LETTERS[first], LETTERS[second]] / total
            assert seen == pytest.approx(probability, abs=4.5 * (probability / total) ** 0.5 + 1e-4)


def test_parity_reads_few_fixed_bits_and_the_steps_show_them():
    from data.tasks.parity import CONTROLS, subsets

    task = load("sparse-parity-scratchpad:parities=5,bits=12,size=3")
    for item in task.items(50):
        _, control, word = item.prompt.rstrip("=").split(" ")
        bits = "".join(word[place] for place in subsets(5, 12, 3)[CONTROLS.index(control)])
        assert item.target == f"{bits}:{bits.count('1') % 2}\n"


def test_scratchpad_steps_are_right_sums():
    for item in load("addition-scratchpad:digits=4").items(40):
        *steps, _ = item.target.strip().split(";")
        for step in steps:
            sum_, value = step.split("=")
            assert sum(map(int, sum_.split("+"))) == int(value)
    for item in load("multiplication-scratchpad").items(40):
        *steps, product = item.target.strip().split(";")
        assert sum(int(step.split("=")[1]) for step in steps) == int(product)


@pytest.mark.parametrize("shots", [0, 1, 5])
def test_shots_are_solved_problems_of_the_training_side(shots):
    task = load(f"reversal:shots={shots}" if shots else "reversal")
    for item in task.items(30):
        *shown, asked = item.prompt.split("\n")
        assert len(shown) == shots
        for line in shown:
            word, answer = re.fullmatch(r"reverse (\w+)>(\w+)", line).groups()
            assert answer == word[::-1]
        assert asked[8:-1][::-1] == item.target.strip()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_a_name_and_its_task_are_one(family, data):
    import dataclasses

    knobs = []
    for field in dataclasses.fields(families()[family]):
        if "least" in field.metadata and data.draw(st.booleans()):
            least, most = field.metadata["least"], field.metadata["most"]
            knobs.append(f"{field.name}={data.draw(st.integers(least, min(most, least + 5)))}")
    name = family + (":" + ",".join(knobs) if knobs else "")
    try:
        task = load(name)
    except BadInput:
        assert family.startswith("sparse-parity")  # size above bits
        return
    assert load(task.name) == task and load(task.name).name == task.name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("additoin", ["unknown task", "additoin", "addition", "file:PATH"]),
        ("addition:digit=3", ["digit", "digits", "shots"]),
        ("addition:digits=0", ["digits=0", "from 1 to 12"]),
        ("addition:digits=x", ["digits='x'", "whole number"]),
        ("addition:digits=2,digits=3", ["digits", "twice"]),
        ("modular-arithmetic:operation=divide", ["operation=divide", "add, subtract, multiply"]),
        ("sparse-parity:bits=4,size=5", ["size=5", "bits=4"]),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(name, words):
    with pytest.raises(BadInput) as caught:
        load(name)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_zero_items_and_more_items_than_exist_are_refused():
    with pytest.raises(BadInput, match="0 items: must be at least 1"):
        load("copying").items(0)
    with pytest.raises(BadInput, match="500 items: it has only about"):
        load("addition:digits=1").items(500)


def write(tmp_path, *lines):
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return f"file:{path}"


def test_a_users_file_is_a_task(tmp_path):
    name = write(
        tmp_path,
        '{"prompt": "2+2=", "target": "4", "choices": ["3", "4", "5"]}',
        "",
        '{"prompt": "sky: ", "target": "blue"}',
    )
    first, second = load(name).items(500)
    assert (first.prompt, first.target, first.distractors) == ("2+2=", "4", ("3", "5"))
    assert (second.prompt, second.target, second.distractors) == ("sky: ", "blue", ())
    assert load(name).guess == pytest.approx(1 / 6) and load(name).name == name


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ["line 1", "not JSON"]),
        ("[]", ["line 1", "object"]),
        ('{"prompt": "a"}', ["line 1", "target=None", "text"]),
        ('{"prompt": "a", "target": ""}', ["line 1", "target", "empty"]),
        ('{"prompt": "a", "target": "b", "choices": ["c"]}', ["line 1", "choices", "'b'"]),
        ('{"prompt": "a", "target": "b", "choices": ["b", "b"]}', ["line 1", "differ"]),
        ('{"prompt": "a", "target": "b", "choices": "bc"}', ["line 1", "list"]),
        ('{"prompt": "a", "target": "b", "answer": "c"}', ["line 1", "'answer'", "prompt, target, choices"]),
        ("", ["holds no problem"]),
    ],
)
def test_a_malformed_file_is_refused_by_line(tmp_path, line, words):
    with pytest.raises(BadInput) as caught:
        load(write(tmp_path, line))
    assert all(word in str(caught.value) for word in ["own.jsonl", *words])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"none\.jsonl: No such file"):
        load(f"file:{tmp_path}/none.jsonl")
