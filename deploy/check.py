"""Checks what no schema knows of the files in this folder: every expression in `observability` is PromQL, every name in
one is a metric that the code has, and what the kustomization names is there.

Usage: check.py ROOT. Needs `promql-parser` and `PyYAML`.
"""

import json
import re
import sys
from pathlib import Path

import promql_parser
import yaml

SUFFIXES = ("_bucket", "_count", "_sum")
# What Grafana puts there before Prometheus sees it.
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$stream": "running"}


def expressions(root: Path):
    rules = yaml.safe_load((root / "deploy/observability/rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            name = rule.get("alert") or rule["record"]
            yield f"rules.yaml: {name}", rule["expr"]
    board = json.loads((root / "deploy/observability/grafana.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield f"grafana.json: {panel['title']}", target["expr"]


def known(root: Path) -> set[str]:
    sources = (path for crate in root.iterdir() for path in (crate / "src").rglob("*.rs"))
    text = "\n".join(path.read_text() for path in sources)
    return set(re.findall(r'"(tidemill_[a-z0-9_]+)"', text))


def missing(root: Path):
    folder = root / "deploy/kubernetes"
    text = yaml.safe_load((folder / "kustomization.yaml").read_text())
    files = list(text["resources"])
    for generated in text["configMapGenerator"]:
        files.extend(generated["files"])
    for generated in text["secretGenerator"]:
        # Made by whoever deploys, after the example.
        files.extend(f"{name}.example" for name in generated["envs"])
    for name in files:
        if not (folder / name).is_file():
            yield f"kustomization.yaml: there is no `{name}`"


def main(root: Path) -> int:
    metrics, wrong, seen = known(root), [], 0
    recorded = re.compile(r"\btidemill:[a-z0-9_:]+")
    for where, text in expressions(root):
        seen += 1
        for variable, value in VARIABLES.items():
            text = text.replace(variable, value)
        try:
            promql_parser.parse(text)
        except ValueError as error:
            wrong.append(f"{where}: {error}: {text}")
        for name in re.findall(r"\btidemill_[a-z0-9_]+", recorded.sub("", text)):
            plain = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
            if name not in metrics and plain not in metrics:
                wrong.append(f"{where}: there is no metric `{name}`")
    wrong.extend(missing(root))
    for line in wrong:
        print(line)
    print(f"{seen} expressions, {len(wrong)} wrong")
    return 1 if wrong or not seen else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
