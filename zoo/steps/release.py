"""Release: weights, plan, ONNX, card and everything known about them, as a new immutable version in the zoo.

Leaves release.json, a copy of the published one.
"""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import surgery
from zoo import atomic, tasks
from zoo.errors import NotAccepted, StepError
from zoo.graph.reading import read
from zoo.job import Job, Result
from zoo.linting.lint import lint
from zoo.linting.report import Report
from zoo.origin import Origin
from zoo.recipe import Accept
from zoo.releases.acceptance import Acceptance, acceptance, refusal
from zoo.releases.card import card
from zoo.releases.lint import fields as lint_fields
from zoo.releases.manifest import FILES, FORMAT, Manifest, content_digest
from zoo.releases.provenance import provenance
from zoo.releases.publishing import publish
from zoo.releases.release import MANIFEST, file_sha256
from zoo.targets.identity import read_same

EVALUATION = ("images", "dataset", "dataset_digest", "trained_on", "epochs", "seconds")
STAGES = {"source": "baseline", "after_surgery": "surgery", "lite": "train"}
SOURCES = {"weights": ("train", "model.safetensors"), "onnx": ("export", "model.onnx")}


def run(job: Job) -> Result:
    """Publish; where the latest release has the same content nothing is published and that release is named.

    Raises NotAccepted where the accuracy misses what the recipe asks for; nothing is written then.
    """
    origin = Origin.model_validate_json((job.upstream["baseline"] / "source.json").read_bytes())
    plan = surgery.Plan.from_json(_json(job.upstream["surgery"] / "plan.json"))
    if not plan.edits and job.model.endswith("_lite"):
        raise StepError(
            f"{job.model}: surgery edited nothing, so the release must not be called lite; "
            "rename the recipe without `_lite`, or give it rules that apply"
        )
    fields = manifest_fields(job, origin, plan)
    found = _accepted(job, origin, fields["accuracy"])
    fields["acceptance"] = found and found.model_dump(mode="json")
    plan_file = job.folder / FILES["plan"]
    atomic.write_json(plan_file, {"origin": origin.model_dump(mode="json"), "surgery": plan.to_json()})
    sources = {"plan": plan_file, **{kind: job.upstream[step] / file for kind, (step, file) in SOURCES.items()}}
    sources |= _further(job.upstream["export"])
    explanation = job.upstream["surgery"] / FILES["explanation"]
    sources |= {"explanation": explanation} if explanation.is_file() else {}
    sources["lint"], fields["lint"] = _lint(job, fields["onnx"]["host"])
    fields["files"] = {kind: _file(FILES.get(kind, source.name), source) for kind, source in sources.items()}
    fields["content_sha256"] = content_digest(fields)

    def finish(version: int) -> tuple[Manifest, str]:
        # The card's digest is part of the manifest, and the card is written from the manifest without it.
        draft = Manifest.model_validate_json(json.dumps({**fields, "version": version}))
        text = card(draft)
        card_file = job.folder / FILES["card"]
        atomic.write_text(card_file, text)
        files = {**fields["files"], "card": _file(FILES["card"], card_file)}
        return Manifest.model_validate_json(json.dumps({**fields, "version": version, "files": files})), text

    published = publish(job.shared / "zoo", job.model, fields["content_sha256"], sources=sources, finish=finish)
    if published.note:
        print(published.note)
    copy = job.folder / MANIFEST
    temporary = copy.with_name(f".{MANIFEST}.tmp")
    shutil.copyfile(published.folder / MANIFEST, temporary)
    atomic.replace_file(temporary, copy)
    for intermediate in (plan_file, sources["lint"], job.folder / FILES["card"]):
        intermediate.unlink(missing_ok=True)
    return Result(
        outputs=(copy,),
        summary={"version": published.manifest.version, "new": published.is_new, "lite": published.manifest.lite},
    )


def manifest_fields(job: Job, origin: Origin, plan: surgery.Plan) -> dict[str, Any]:
    """release.json's fields but for the files, the version and the content's digest."""
    report = _json(job.upstream["surgery"] / "report.json")
    exported = _json(job.upstream["export"] / "export.json")
    source, lite = exported["source"], exported["lite"]
    return {
        "format": FORMAT,
        "name": job.model,
        "lite": bool(plan.edits),
        "description": job.settings.get("description") or "",
        "target": job.settings["target_name"],
        "origin": origin.model_dump(mode="json"),
        "fingerprint": lite["fingerprint"],
        "accuracy": {
            "headline": tasks.find(origin.task).METRIC,
            "stand_in": _json(job.upstream["data"] / "dataset.json")["root"] == ".",  # generated in the step's folder
            **_evaluations(job),
        },
        "costs": {"source": source["cost"], "lite": lite["cost"]},
        "latency": exported["latency"],
        "onnx": {
            **{key: exported[key] for key in ("opset", "dynamic_batch", "tolerance", "host")},
            **{key: lite[key] for key in ("simplified", "simplification", "parity")},
        },
        "surgery": {
            "edits": dict(Counter(edit.rule for edit in plan.edits)),
            "promises": {edit.rule: str(edit.promise) for edit in plan.edits},
            "refusals": [{key: left[key] for key in ("rule", "site", "reason")} for left in report["refusals"]],
            "warm_start": report["warm_start"],
        },
        "licences": {**origin.licences.model_dump(), "data": job.settings["dataset_licence"]},
        "provenance": provenance(job.model, job.settings["profile"], job.root).model_dump(mode="json"),
    }


def _evaluations(job: Job) -> dict[str, dict[str, Any]]:
    """Each stage's metrics.json as an Evaluation; what they have in common that is a number is a metric."""
    stages = {stage: _json(job.upstream[step] / "metrics.json") for stage, step in STAGES.items()}
    common, schedules = stages["after_surgery"], job.settings["schedules"]
    return {stage: _evaluation(metrics, common, schedules.get(stage, "")) for stage, metrics in stages.items()}


def _evaluation(metrics: dict[str, Any], common: dict[str, Any], schedule: str) -> dict[str, Any]:
    """``common`` is what surgery left, where nothing is trained: what others state beside that is of their training.

    But for figures of a class, such as ``iou/cat``, which are there where the class is found.
    """
    names = {name for name, value in common.items() if name not in EVALUATION and _is_number(value)}
    names |= {name for name in metrics if "/" in name}
    trained = metrics.get("epochs") or 0
    return {
        "trained_on": metrics.get("trained_on") or "",
        "epochs": trained,
        "seconds": metrics.get("seconds"),
        "schedule": schedule if trained else "",
        "training": {key: value for key, value in metrics.items() if key not in {*common, *names, *EVALUATION}},
        "metrics": {key: metrics[key] for key in sorted(names & metrics.keys())},
        **{key: metrics[key] for key in ("images", "dataset", "dataset_digest")},
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _accepted(job: Job, origin: Origin, accuracy: dict[str, Any]) -> Acceptance | None:
    """What the recipe asks for, which is reached. Raises NotAccepted where it is not."""
    headline, lite = accuracy["headline"], accuracy["lite"]
    accept, profile = Accept.model_validate(job.settings["accept"]), job.settings["profile"]
    found = acceptance(accept, profile, accuracy["source"]["metrics"][headline], lite["metrics"][headline])
    if found is not None and found.missed:
        data = f"{lite['images']} validation images of {lite['dataset']} (profile {profile})"
        recipe = f"recipes/{origin.library}/{job.model}.yaml"
        raise NotAccepted(f"{recipe}: accept: {refusal(found, headline, data)}")
    return found


def _lint(job: Job, host: list[str]) -> tuple[Path, dict[str, Any]]:
    """What each target says of the ONNX file: lint.json, of the target that it is for, and the manifest's part."""
    graph = read(job.upstream["export"] / SOURCES["onnx"][1])
    own, device = job.settings["target_name"], job.settings["device"]
    targets = {name: read_same(name, sha256, job.root) for name, sha256 in job.settings["targets"].items()}

    def linted(name: str, device: str = "") -> Report:
        return lint(graph, targets[name], model=job.model, target_name=name, device=device, host=frozenset(host))

    report = linted(own, device)
    file = job.folder / FILES["lint"]
    atomic.write_json(file, report.to_json())
    return file, lint_fields(report, {name: linted(name) for name in targets}, job.settings["left"])


def _further(exported: Path) -> dict[str, Path]:
    """The files that the task added, by their names without suffixes: detection_head for detection_head.json."""
    names = _json(exported / "export.json").get("further", [])
    return {name.partition(".")[0]: exported / "further" / name for name in names}


def _file(name: str, source: Path) -> dict[str, Any]:
    return {"path": name, "sha256": file_sha256(source), "size": source.stat().st_size}


def _json(file: Path) -> Any:
    return json.loads(file.read_bytes())
