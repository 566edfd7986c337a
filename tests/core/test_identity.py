"""A spec.json is known by the name of its run, from the JSON alone."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import to_json
from core.identity import ALWAYS, UNLESS, contradicts, digest_of
from tests.support.small import ROOT
from training.spec import RunSpec


def test_the_tables_name_every_field_of_a_spec():
    """A field that is added to RunSpec has its line here too, or reports would take its runs for changed ones."""
    spec = RunSpec()
    for section, always in ALWAYS.items():
        tree = getattr(spec, section) if section else spec
        fields = [field for field in dataclasses.fields(tree) if section or field.name not in ALWAYS]
        later = {field.name: field for field in fields if field.metadata.get("identity") == "if set"}
        assert set(always) == {field.name for field in fields} - later.keys()
        defaults = json.loads(json.dumps({name: to_json(tree)[name] for name in later}))
        assert defaults == UNLESS[section]


@given(
    width=st.sampled_from([8, 16, 64]),
    tasks=st.sampled_from([(), ("copying",)]),
    skills=st.sampled_from(["", "copying@0.1"]),
    rate=st.floats(1e-6, 1.0),
)
def test_a_name_ends_in_the_digest_of_its_spec(width, tasks, skills, rate):
    spec = RunSpec()
    spec = dataclasses.replace(
        spec,
        model=dataclasses.replace(spec.model, width=width),
        data=dataclasses.replace(spec.data, skills=skills),
        optim=dataclasses.replace(spec.optim, learning_rate=rate),
        tasks=tasks,
    )
    written = json.loads(json.dumps(to_json(spec)))
    assert spec.run_id.endswith(f"-{digest_of(written)}")
    assert contradicts(spec.run_id, written) == ""
    written["seed"] = 3
    assert "was changed" in contradicts(spec.run_id, written)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/stored/runs/stored").iterdir()), ids=lambda path: path.name
)
def test_stored_specs_are_known(path):
    spec = json.loads((path / "spec.json").read_text())
    assert path.name.endswith(f"-{digest_of(spec)}")
    del spec["model"]["vocabulary"]
    assert digest_of(spec) is None
    assert contradicts(path.name, spec) == "lacks model.vocabulary, which every version wrote"
    spec["model"] = {"width": 8}  # someone else's
    assert contradicts(path.name, spec) == ""
    spec["model"] = []
    assert "no object" in contradicts(path.name, spec)
