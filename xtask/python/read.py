# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Reads what a guest answered, from stdin, with tools of others.

Lines `answer SCHEMA JSON` are held against docs/schema/SCHEMA.schema.json (the directory is the argument); what
follows the line `metrics` is OpenMetrics text. Says what it read; ends with an error if anything is not as it should be.
"""

import json
import pathlib
import sys

import fastjsonschema
from prometheus_client.openmetrics.parser import text_string_to_metric_families

schemas = pathlib.Path(sys.argv[1])
answers, _, metrics = sys.stdin.read().partition("metrics\n")
for line in answers.splitlines():
    word, name, answer = line.split(" ", 2)
    assert word == "answer", line
    schema = json.loads((schemas / f"{name}.schema.json").read_text())
    answer = json.loads(answer)
    validate = fastjsonschema.compile(schema)
    validate(answer)
    # A schema that takes anything is none.
    for key in schema["required"]:
        try:
            validate({other: value for other, value in answer.items() if other != key})
        except fastjsonschema.JsonSchemaValueException:
            continue
        sys.exit(f"{name} does not miss {key}")
    print("answer", name, answer.get("runtime_state", answer.get("enforce_capable")))
for family in text_string_to_metric_families(metrics):
    print(family.name, family.type, len(family.samples))
    if family.name == "aegisbpf_runtime_state":
        print("state", *(sample.labels[family.name] for sample in family.samples if sample.value == 1))
    if family.name == "aegisbpf_denials":
        print("denied", int(sum(sample.value for sample in family.samples)))
