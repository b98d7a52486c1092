"""Every CronJob is found, in whatever dress; what only speaks of one is not."""

import json
from textwrap import dedent

import pytest

from tests.periodic.elsewhere.conftest import Planted

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
AS_JSON = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "j"}, "spec": {"schedule": "0 3 * * *"}}


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("deploy/job.yaml", MANIFEST, [(2, "nightly")]),
        ("job.yml", MANIFEST.replace("\n", "\r\n"), [(3, "nightly")]),
        ("many.yaml", f"kind: Service\napiVersion: v1\nspec: {{}}\n---{dedent(MANIFEST)}---{dedent(MANIFEST)}",
         [(6, "nightly"), (14, "nightly")]),
        ("list.yaml", LIST, [(12, "nightly"), (13, "hourly")]),
        ("chart/templates/cron.yaml", HELM, [(5, "{{")]),
        ("chart/templates/_cron.tpl", HELM, [(5, "{{")]),
        ("values.yaml", EMBEDDED, [(4, "embedded")]),
        ("pretty.json", json.dumps(AS_JSON, indent=2), [(3, "j")]),
        ("compact.json", json.dumps(AS_JSON), [(1, "j")]),
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
        "description: |\n  A kind: CronJob is not used here, its spec and apiVersion neither.\n",
        "rules:\n  - apiGroups: [batch]\n    resources: [cronjobs]\n    kinds:\n      - CronJob\n",
        "x-kubernetes-group-version-kind:\n  - group: batch\n    kind: CronJob\n    version: v1\n",
    ],
)  # fmt: skip
def test_what_only_speaks_of_a_cron_job_is_none(hits: Planted, content: str) -> None:
    assert hits({"manifest.yaml": content}) == []
