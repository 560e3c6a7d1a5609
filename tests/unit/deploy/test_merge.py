"""The user's patch, by itself and beside kubectl's."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.deploy.jobs import by_kind, make_job
from trainer.deploy import Request, render
from trainer.deploy.merge import merge


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": {"b": 1}}, {"a": None}, {}),
        ({"a": 1}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        ({"args": [1, 2]}, {"args": [3]}, {"args": [3]}),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"},
                     {"name": "C", "value": "4"}]},
        ),
        (
            {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}]},
            {"volumes": [{"name": "a", "$patch": "delete"}]},
            {"volumes": [{"name": "b", "emptyDir": {}}]},
        ),
        ({"volumes": [{"name": "a"}]}, {"volumes": [{"name": "z", "$patch": "delete"}]},
         {"volumes": [{"name": "a"}]}),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": []}, {"tolerations": []}),
    ],
)  # fmt: skip
def test_merging(base, patch, merged):
    before = copy.deepcopy(base)
    assert merge(base, patch) == merged
    assert base == before


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def test_a_list_of_things_without_names_is_replaced():
    assert merge({"env": [{"name": "A"}]}, {"env": [False]}) == {"env": [False]}


@given(st.dictionaries(st.text(max_size=3), JSON))
def test_a_patch_over_itself_changes_nothing(value):
    assert merge(value, value) == value
    assert merge({}, value) == value


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_it_agrees_with_kubectl():
    job = by_kind(render(Request(job=make_job(), run_id="r")), "Job")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    pod["spec"] = job["spec"]["template"]["spec"]
    patch = {
        "spec": {
            "nodeSelector": {"pool": "a"},
            "terminationGracePeriodSeconds": None,
            "tolerations": [{"operator": "Exists"}],
            "volumes": [{"name": "extra", "emptyDir": {}}, {"name": "tmp", "$patch": "delete"}],
            "containers": [
                {
                    "name": "agent",
                    "env": [{"name": "USER", "value": "me"}, {"name": "NEW", "value": "1"}],
                    "volumeMounts": [{"name": "extra", "mountPath": "/tmp"}],
                    "resources": {"limits": {"memory": "1Gi"}},
                },
                {"name": "side", "image": "x"},
            ],
        }
    }
    done = subprocess.run(
        ["kubectl", "patch", "--local", "-f", "-", "--type=strategic", "-o", "json",
         "-p", json.dumps(patch)],
        input=json.dumps(pod), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    theirs = json.loads(done.stdout)["spec"]
    ours = merge(pod, patch)["spec"]
    for spec in (theirs, ours):
        for container in spec["containers"]:
            for key, by in (("env", "name"), ("volumeMounts", "mountPath")):
                container[key] = sorted(container.get(key, []), key=lambda one, by=by: one[by])
        spec["containers"].sort(key=lambda container: container["name"])
        spec["volumes"].sort(key=lambda volume: volume["name"])
        spec["containers"] = [
            {key: value for key, value in container.items() if value not in ([], {})}
            for container in spec["containers"]
        ]
    assert theirs == ours
