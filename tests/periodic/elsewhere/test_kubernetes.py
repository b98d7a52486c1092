"""Every CronJob is found, in whatever dress; what only speaks of one is not."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from periodic.elsewhere import look
from tests.periodic.elsewhere.conftest import Planted, plant

MANIFEST = """
    apiVersion: batch/v1
    kind: CronJob
    metadata:
      name: nightly
    spec:
      schedule: "0 3 * * *"
      jobTemplate: {}
    """
LIST = """
    apiVersion: v1
    kind: List
    items:
      - apiVersion: v1
        kind: ConfigMap
        metadata: {name: settings}
      - metadata:
          name: nightly
        spec:
          schedule: "0 3 * * *"
        apiVersion: batch/v1
        kind: "CronJob"   # the old one
      - kind: CronJob
        apiVersion: batch/v1
        metadata:
          name: hourly
        spec: {schedule: "@hourly"}
    """
HELM = """
    {{- range .Values.jobs }}
    ---
    apiVersion: {{ include "cron.apiVersion" $ }}
    {{- if .enabled }}
    kind: CronJob
    {{- end }}
    metadata:
      name: {{ .name }}
    {{- with .spec }}
    spec:
      schedule: {{ .schedule | quote }}
    {{- end }}
    {{- end }}
    """
EMBEDDED = """
    extraDeploy:
      - |
        apiVersion: batch/v1
        kind: CronJob
        metadata:
          name: embedded
        spec:
          schedule: "0 * * * *"
    """
BY_HAND = """
    {"apiVersion":"batch/v1",
     "kind":"CronJob",
     "metadata":{"name":"j", "labels":{"note":"a } and a { in a text"}},"spec":{"schedule":"0 3 * * *"}}
    """
TIGHT = """
    {
    "spec":{},
    "metadata":{"name":"j"},
    "kind":
      "CronJob",
    "apiVersion":"batch/v1"
    }
    """
FLOW_LINES = """
    {apiVersion: batch/v1,
     kind: CronJob,
     metadata: {name: j}, spec: {schedule: "0 3 * * *"}}
    """
FLOW_ITEMS = """
    apiVersion: v1
    kind: List
    items: [{ kind: CronJob, apiVersion: batch/v1,
              metadata: {name: j}, spec: {} },
            {apiVersion: batch/v1, metadata: {name: k}, spec: {},
             kind: CronJob}]
    """
INDENTED_HELM = """
    jobs:
      inner:
        apiVersion: batch/v1
    {{- if .x }}
        kind: CronJob
    {{- end }}
        metadata:
          name: {{ include "x.name" . }}-nightly
        spec: {}
    """
AS_JSON = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "j"}, "spec": {"schedule": "0 3 * * *"}}


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("deploy/job.yaml", MANIFEST, [(2, "nightly")]),
        ("job.yml", MANIFEST.replace("\n", "\r\n"), [(3, "nightly")]),
        ("many.yaml", f"kind: Service\napiVersion: v1\nspec: {{}}\n---{dedent(MANIFEST)}---{dedent(MANIFEST)}",
         [(6, "nightly"), (14, "nightly")]),
        ("list.yaml", LIST, [(12, "nightly"), (13, "hourly")]),
        ("chart/templates/cron.yaml", HELM, [(5, "{{ .name }}")]),
        ("chart/templates/_cron.tpl", HELM, [(5, "{{ .name }}")]),
        ("values.yaml", EMBEDDED, [(4, "embedded")]),
        ("pretty.json", json.dumps(AS_JSON, indent=2), [(3, "j")]),
        ("compact.json", json.dumps(AS_JSON), [(1, "j")]),
        ("by-hand.json", BY_HAND, [(2, "j")]),
        ("tight.json", TIGHT, [(4, "j")]),
        ("tabs.json", json.dumps(AS_JSON, indent="\t", separators=(",", ":")), [(3, "j")]),
        ("list.json", json.dumps({"kind": "List", "items": [AS_JSON, AS_JSON | {"metadata": {"name": "k"}}]}),
         [(1, "j"), (1, "k")]),
        ("cut.json", json.dumps(AS_JSON)[:-4], [(1, "j")]),
        ("lines.json", f"{json.dumps(AS_JSON)}\n{json.dumps(AS_JSON)}\n", [(1, "j"), (2, "j")]),
        ("job.json.tpl", BY_HAND.replace('"j"', "{{ name }}"), [(2, "{{ name }}")]),
        ("json.yaml", BY_HAND, [(2, "j")]),
        ("flow-lines.yaml", FLOW_LINES, [(2, "j")]),
        ("flow-items.yaml", FLOW_ITEMS, [(3, "j"), (6, "k")]),
        ("indented.yaml", INDENTED_HELM, [(5, '{{ include "x.name" . }}-nightly')]),
        ("flow.yaml", "{apiVersion: batch/v1, kind: CronJob, metadata: {name: j}, spec: {schedule: '@daily'}}",
         [(1, "j")]),
    ],
)  # fmt: skip
def test_a_cron_job_is_found_with_its_line(
    hits: Planted, file: str, content: str, expected: list[tuple[int, str]]
) -> None:
    assert hits({file: content}) == [(file, line, name) for line, name in expected]


@pytest.mark.parametrize(
    "content",
    [
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\nspec: {}\n",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  ownerReferences:\n    - apiVersion: batch/v1\n      kind: CronJob\n"
        "      name: nightly\nspec: {}\n",
        "kind: Kustomization\npatches:\n  - path: p.yaml\n    target:\n      kind: CronJob\n      name: nightly\n",
        "# kind: CronJob\napiVersion: v1\nspec: {}\n",
        "# {apiVersion: batch/v1, kind: CronJob, spec: {}}\nkind: Service\n",
        "spec: {a: 1}\napiVersion: v1\nx: {kind: CronJob, name: nightly}\n",
        '{"apiVersion": "v1", "spec": {}, "target": {"kind":"CronJob", "name":"nightly"}}',
        '{"apiVersion": "v1", "spec": {}, "note": "kind: CronJob"}',
        "description: |\n  A kind: CronJob is not used here, its spec and apiVersion neither.\n",
        "rules:\n  - apiGroups: [batch]\n    resources: [cronjobs]\n    kinds:\n      - CronJob\n",
        "x-kubernetes-group-version-kind:\n  - group: batch\n    kind: CronJob\n    version: v1\n",
    ],
)  # fmt: skip
def test_what_only_speaks_of_a_cron_job_is_none(hits: Planted, content: str) -> None:
    assert hits({"manifest.yaml": content}) == []


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("broken.yml", "apiVersion: batch/v1\nkind: CronJob\n  metadata: [\n\t\tspec\n", 2),
        ("half.yml", "kind: CronJob\nmetadata: {name: x\n", 1),
        ("tabs.yaml", "\tkind: CronJob\n  apiVersion: batch/v1\n spec: {}\n", 1),
        ("cut.json", '{"apiVersion": "batch/v1",\n "kind": "CronJob",\n "metadata": {"a": [', 2),
    ],
)
def test_a_cron_job_that_cannot_be_read_is_a_warning(tmp_path: Path, file: str, content: str, line: int) -> None:
    found = look([plant(tmp_path, {file: content.encode()})])

    assert found.hits == []
    assert found.warnings == [
        f"{tmp_path}/{file}:{line}: kind: CronJob, but no apiVersion and spec could be read beside it: mend the "
        "file, or look at it yourself"
    ]


def test_a_mapping_that_says_its_kind_very_often_is_read_once(tmp_path: Path) -> None:
    manifest = "apiVersion: batch/v1\nspec: {}\n" + "kind: CronJob\n" * 20_000

    (hit,) = look([plant(tmp_path, {"many.yaml": manifest})]).hits

    assert hit.line == 3
