"""Releases: whole, immutable, one version for each content; and the index that lists them."""

import hashlib
import json
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from small_build import NAME, SmallBuild, write_metrics

import surgery
from zoo import atomic, index
from zoo.errors import IntegrityError, MissingIndex, StepError, UnsupportedFormat
from zoo.releases import consumer, provenance, publishing, release

ENTRY = index.Entry(
    name="a_lite",
    version=1,
    release_sha256="a" * 64,
    task="classification",
    lite=True,
    source="torchvision/a",
    dataset="speckles",
    metric="top1",
    value=0.5,
    source_value=0.6,
    macs=10,
    parameters=20,
    speed_up=1.5,
)


def no_releases() -> list[index.Entry]:
    return []


def versions(build: SmallBuild, name: str = NAME) -> list[str]:
    return sorted(folder.name for folder in (build.zoo / "models" / name).iterdir())


def test_a_release_holds_its_six_files_read_only_with_their_digests(small_build: SmallBuild) -> None:
    folder = small_build.zoo / "models" / NAME / "v1"
    manifest = json.loads((folder / "release.json").read_bytes())
    files = {file["path"]: file for file in manifest["files"].values()}
    assert sorted([*files, "release.json"]) == sorted(path.name for path in folder.iterdir())
    assert len(files) == 5
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    for name, file in files.items():
        content = (folder / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])


def test_a_release_says_what_was_measured_on_what_and_how_to_build_it_again(small_build: SmallBuild) -> None:
    text = (small_build.zoo / "models" / NAME / "v1" / "release.json").read_text()
    manifest = json.loads(text)
    for stage, top1 in (("source", 0.9), ("after_surgery", 0.5), ("lite", 0.875)):
        evaluation = manifest["accuracy"][stage]
        assert evaluation["metrics"]["top1"] == top1
        assert (evaluation["dataset"], evaluation["dataset_digest"]) == ("speckles", "d" * 64)
    assert manifest["licences"].keys() == {"code", "weights", "data"}
    assert {"torch", "torchvision", "onnx", "onnxruntime"} <= manifest["provenance"]["libraries"].keys()
    assert manifest["provenance"]["commands"] == [f"doit build:{NAME} profile=demo"]
    assert manifest["lite"] is True
    assert sum(manifest["surgery"]["edits"].values()) > 20
    assert str(small_build.root) not in text


def test_a_release_from_before_geometry_channels_and_options_is_read(small_build: SmallBuild) -> None:
    content = json.loads((small_build.zoo / f"models/{NAME}/v1/release.json").read_bytes())
    now = release.parse(json.dumps(content).encode(), "now")
    del content["origin"]["options"], content["origin"]["preprocessing"]["geometry"]
    del content["origin"]["preprocessing"]["channels"]
    assert release.parse(json.dumps(content).encode(), "before") == now


def test_a_release_says_what_every_target_accelerates_and_is_listed_for_those_that_refuse_nothing(
    small_build: SmallBuild,
) -> None:
    folder = small_build.zoo / "models" / NAME / "v1"
    manifest = release.parse((folder / "release.json").read_bytes(), "v1")
    report = json.loads((folder / "lint.json").read_bytes())
    assert manifest.lint is not None
    assert (report["target"], report["clean"]) == ("embedded", True)
    assert (manifest.lint.clean, manifest.lint.left) == (True, ())
    assert manifest.lint.nodes == manifest.lint.accelerated_nodes == report["summary"]["nodes"] > 50
    assert manifest.lint.macs == report["summary"]["macs"]
    assert {name: found.clean for name, found in manifest.lint.targets.items()} == {"embedded": True, "bare": False}
    assert 0.5 < manifest.lint.targets["bare"].node_share < 1 < manifest.lint.targets["bare"].subgraphs
    assert index.read(small_build.zoo)[NAME][1].targets == ("embedded",)
    assert consumer.list_models(target="embedded", index=small_build.zoo) == [NAME]
    assert consumer.list_models(target="bare", index=small_build.zoo) == []


def test_what_is_left_is_in_the_release_with_the_recipes_reason(own_build: SmallBuild) -> None:
    assert own_build.release(target_name="bare", left={"Relu": "the host is fast"})["version"] == 2
    folder = own_build.zoo / "models" / NAME / "v2"
    manifest = release.parse((folder / "release.json").read_bytes(), "v2")
    assert manifest.lint is not None
    (left,) = manifest.lint.left
    assert (left.op, left.module, left.why) == ("Relu", "features.0.2", "the host is fast")
    assert left.nodes > 20
    card = (folder / "card.md").read_text()
    assert f"| Relu | {left.nodes} | `features.0.2` | {left.fact} | the host is fast |" in card


def test_why_surgery_chose_its_rules_is_in_the_release(own_build: SmallBuild) -> None:
    atomic.write_json(own_build.folder("surgery") / "explanation.json", {"rounds": []})
    write_metrics(own_build, "train", 0.7)
    assert own_build.release()["version"] == 2
    assert consumer.get(NAME, index=own_build.zoo, version=1).manifest.files.keys().isdisjoint({"explanation"})
    folder = own_build.zoo / "models" / NAME / "v2"
    assert json.loads((folder / "explanation.json").read_bytes()) == {"rounds": []}


def test_a_new_target_makes_a_version_only_where_it_refuses_nothing(own_build: SmallBuild) -> None:
    only_own = {"targets": {"embedded": own_build.digests["embedded"]}}
    assert own_build.release(**only_own)["version"] == 1
    file = own_build.root / "configs/targets/bare.yaml"
    file.write_text(file.read_text().replace("removed: [Relu]\n", ""))
    assert own_build.release()["version"] == 2


def test_a_release_from_before_lints_is_read(small_build: SmallBuild) -> None:
    content = json.loads((small_build.zoo / f"models/{NAME}/v1/release.json").read_bytes())
    del content["lint"], content["onnx"]["host"]
    before = release.parse(json.dumps(content).encode(), "before")
    assert before.entry("a" * 64).targets == ()


def test_plan_json_is_enough_with_the_weights(small_build: SmallBuild) -> None:
    content = json.loads((small_build.zoo / "models" / NAME / "v1" / "plan.json").read_bytes())
    assert content["origin"]["model"] == "mobilenet_v3_small"
    assert surgery.Plan.from_json(content["surgery"]).edits


def test_the_card_says_what_it_is_and_on_which_data(small_build: SmallBuild) -> None:
    card = (small_build.zoo / "models" / NAME / "v1" / "card.md").read_text()
    assert card.startswith(f"# {NAME}\n\nA lite version of torchvision's `mobilenet_v3_small`")
    assert "| top-1 | 90.0 % (3 ep.) | 50.0 % | 87.5 % (2 ep.) |" in card
    assert "`speckles` (8 validation images" in card
    assert "says nothing about any other data. It is a stand-in that the build generates: no figure" in card
    for heading in ("Results", "Surgery", "Use", "Licences", "Provenance"):
        assert f"\n## {heading}\n" in card


def test_unchanged_content_makes_no_version_though_times_differ(own_build: SmallBuild) -> None:
    before = (own_build.zoo / "models" / NAME / "v1" / "release.json").read_bytes()
    write_metrics(own_build, "train", 0.875, seconds=99.0)
    report = json.loads((own_build.folder("export") / "export.json").read_bytes())
    report["latency"]["speed_up"] = 9.0
    atomic.write_json(own_build.folder("export") / "export.json", report)
    summary = own_build.release()
    assert (summary["version"], summary["new"]) == (1, False)
    assert versions(own_build) == ["v1"]
    assert (own_build.folder("release") / "release.json").read_bytes() == before


@pytest.mark.parametrize("what", ["accuracy", "weights", "onnx", "licence"])
def test_changed_content_makes_the_next_version_and_leaves_the_last(own_build: SmallBuild, what: str) -> None:
    before = {p.name: p.read_bytes() for p in (own_build.zoo / "models" / NAME / "v1").iterdir()}
    changes = {}
    if what == "accuracy":
        write_metrics(own_build, "train", 0.88)
    elif what == "licence":
        changes = {"dataset_licence": "CC-BY-4.0"}
    elif what == "onnx":
        file = own_build.folder("export") / "model.onnx"
        model = onnx.load(file)
        model.producer_version = "another"
        onnx.save(model, file)
    else:
        with (own_build.folder("train") / "model.safetensors").open("ab") as stream:
            stream.write(b"\0")
    assert own_build.release(**changes)["version"] == 2
    assert versions(own_build) == ["v1", "v2"]
    assert {p.name: p.read_bytes() for p in (own_build.zoo / "models" / NAME / "v1").iterdir()} == before


def test_a_damaged_release_is_never_written_over(own_build: SmallBuild, capsys: pytest.CaptureFixture[str]) -> None:
    weights = own_build.zoo / "models" / NAME / "v1" / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"damaged")
    assert own_build.release()["version"] == 2
    assert weights.read_bytes() == b"damaged"
    assert "v1 is left as it is, a new version is made:" in capsys.readouterr().out


def test_a_version_that_lost_its_release_json_is_not_given_again(own_build: SmallBuild) -> None:
    (own_build.zoo / "models" / NAME / "v1" / "release.json").unlink()
    assert own_build.release()["version"] == 2


def test_a_killed_publication_leaves_nothing_that_is_believed(
    own_build: SmallBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned = own_build.zoo / "models" / NAME / f"{publishing.PARTIAL}killed"
    abandoned.mkdir()
    (abandoned / "release.json").write_text("{")
    assert list(release.published(own_build.zoo)) == [(NAME, 1)]
    write_metrics(own_build, "train", 0.7)

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(publishing.shutil, "copyfile", no_space)
        with pytest.raises(OSError, match="No space"):
            own_build.release()
    assert versions(own_build) == ["v1"]
    assert own_build.release()["version"] == 2
    assert versions(own_build) == ["v1", "v2"]


def test_a_release_without_edits_does_not_call_itself_lite(own_build: SmallBuild) -> None:
    plan_file = own_build.folder("surgery") / "plan.json"
    plan = json.loads(plan_file.read_bytes())
    atomic.write_json(plan_file, {**plan, "edits": [], "after": plan["before"]})
    with pytest.raises(StepError, match="must not be called lite; rename the recipe"):
        own_build.release()
    own_build.release(model="mobilenet_v3_small")
    folder = own_build.zoo / "models" / "mobilenet_v3_small" / "v1"
    assert json.loads((folder / "release.json").read_bytes())["lite"] is False
    card = (folder / "card.md").read_text()
    assert "found nothing to replace, so this release is not a lite model" in card
    assert "A lite version" not in card


def test_the_index_step_lists_the_release(small_build: SmallBuild) -> None:
    entry = index.read(small_build.zoo)[NAME][1]
    content = (small_build.zoo / "models" / NAME / "v1" / "release.json").read_bytes()
    assert entry.release_sha256 == hashlib.sha256(content).hexdigest()
    assert (entry.value, entry.source_value, entry.lite) == (0.875, 0.9, True)
    assert index.holds(small_build.zoo, NAME, 1)
    assert not index.holds(small_build.zoo, NAME, 2)
    assert not index.holds(small_build.zoo, "other", 1)
    left = json.loads((small_build.folder("index") / "entry.json").read_bytes())
    assert (left["name"], left["version"], left["targets"]) == (NAME, 1, ["embedded"])
    assert index.holds(small_build.zoo, NAME, 1, left)
    assert not index.holds(small_build.zoo, NAME, 1, {**left, "targets": []})


def test_an_index_from_before_it_held_targets_is_read(tmp_path: Path) -> None:
    index.add(tmp_path, replace(ENTRY, targets=("chip",)), rebuild=no_releases)
    content = json.loads((tmp_path / index.FILE).read_bytes())
    assert content["releases"]["a_lite"]["versions"]["1"].pop("targets") == ["chip"]
    (tmp_path / index.FILE).write_text(json.dumps(content))
    assert index.read(tmp_path)["a_lite"][1] == ENTRY


@pytest.mark.parametrize("targets", [["../x"], [3], "chip", ["a\u001b[2J"], None])
def test_an_index_with_what_can_be_no_targets_is_damaged(tmp_path: Path, targets: object) -> None:
    index.add(tmp_path, ENTRY, rebuild=no_releases)
    content = json.loads((tmp_path / index.FILE).read_bytes())
    content["releases"]["a_lite"]["versions"]["1"]["targets"] = targets
    (tmp_path / index.FILE).write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match="damaged"):
        index.read(tmp_path)


def test_a_damaged_index_is_made_again_from_the_releases(
    own_build: SmallBuild, capsys: pytest.CaptureFixture[str]
) -> None:
    write_metrics(own_build, "train", 0.7)
    own_build.release()
    file = own_build.zoo / index.FILE
    file.write_bytes(file.read_bytes()[:100])
    assert not index.holds(own_build.zoo, NAME, 1)
    own_build.index()
    assert set(index.read(own_build.zoo)[NAME]) == {1, 2}
    assert "index.json: damaged" in capsys.readouterr().out
    file.unlink()
    own_build.index()
    assert set(index.read(own_build.zoo)[NAME]) == {1, 2}


def test_a_release_that_is_gone_is_not_indexed(own_build: SmallBuild) -> None:
    copy = own_build.folder("release") / "release.json"
    assert index.is_whole(own_build.zoo, NAME, 1, copy)
    (own_build.zoo / "models" / NAME / "v1" / "plan.json").unlink()
    assert not index.is_whole(own_build.zoo, NAME, 1, copy)
    (own_build.zoo / "models" / NAME / "v1" / "release.json").unlink()
    assert not index.is_whole(own_build.zoo, NAME, 1, copy)
    with pytest.raises(StepError, match=r"not what the release step made; delete .*release\.json and build again"):
        own_build.index()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"releases": {}}',
        '{"format": 1}',
        '{"format": 1, "releases": {"../../etc": {"latest": 1, "versions": {"1": %s}}}}',
        '{"format": 1, "releases": {"a": {"latest": 1, "versions": {"1": {}}}}}',
        '{"format": 1, "releases": {"a": {"latest": 2, "versions": {"1": %s}}}}',
        '{"format": 1, "releases": {"a": {"latest": 0, "versions": {"0": %s}}}}',
        '{"format": 1, "releases": {"a": {"latest": 1, "versions": {}}}}',
        '{"format": 1, "releases": {"a\\u001b[2J": {"latest": 1, "versions": {"1": %s}}}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_index_is_one_clear_line(tmp_path: Path, content: str) -> None:
    figures = {k: v for k, v in vars(ENTRY).items() if k not in ("name", "version")}
    (tmp_path / index.FILE).write_text(content.replace("%s", json.dumps(figures)))
    with pytest.raises(IntegrityError, match=r"index\.json: damaged: .*; delete it and run `doit build`") as caught:
        index.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_newer_index_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / index.FILE).write_text('{"format": 2, "shelves": []}')
    with pytest.raises(UnsupportedFormat, match="format 2, this lite-zoo reads format 1; install a newer lite-zoo"):
        index.read(tmp_path)
    with pytest.raises(UnsupportedFormat):
        index.add(tmp_path, ENTRY, rebuild=no_releases)
    assert (tmp_path / index.FILE).read_text() == '{"format": 2, "shelves": []}'


def test_no_index_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(MissingIndex, match=r"there is no zoo here; build one with `doit build`.*ZOO_INDEX"):
        index.read(tmp_path / "nowhere")


def test_an_index_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        index.add(tmp_path, replace(ENTRY, version=version), rebuild=no_releases)
        assert max(index.read(tmp_path)["a_lite"]) == version


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from zoo import index
zoo_folder, name = Path(sys.argv[1]), sys.argv[2]
entry = index.read(zoo_folder)["a_lite"][1]
for version in range(1, 11):
    index.add(zoo_folder, replace(entry, name=name, version=version), rebuild=list)
"""


def test_concurrent_additions_lose_nothing_and_the_index_is_readable_throughout(tmp_path: Path) -> None:
    index.add(tmp_path, ENTRY, rebuild=no_releases)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), f"m{number}"]) for number in range(2)]
    while any(writer.poll() is None for writer in writers):
        assert "a_lite" in index.read(tmp_path)
    assert [writer.returncode for writer in writers] == [0, 0]
    found = index.read(tmp_path)
    assert {name: len(versions) for name, versions in found.items()} == {"a_lite": 1, "m0": 10, "m1": 10}
    assert sorted(path.name for path in tmp_path.iterdir()) == [index.FILE, index.LOCK]


def test_the_commit_is_only_that_of_the_checkout_itself(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        provenance._git(tmp_path, *identity, *arguments)

    assert provenance._checkout(tmp_path) == (None, None)
    git("init", "--quiet")
    assert provenance._checkout(tmp_path.resolve()) == (None, None)
    (tmp_path / "file").write_text("one")
    (tmp_path / "installed").mkdir()
    git("add", "file")
    git("commit", "--quiet", "-m", "one")
    commit, dirty = provenance._checkout(tmp_path.resolve())
    assert (len(commit or ""), dirty) == (40, False)
    (tmp_path / "file").write_text("two")
    assert provenance._checkout(tmp_path.resolve()) == (commit, True)
    assert provenance._checkout((tmp_path / "installed").resolve()) == (None, None)


def test_damage_of_the_same_size_is_noticed(own_build: SmallBuild) -> None:
    copy = own_build.folder("release") / "release.json"
    file = own_build.zoo / "models" / NAME / "v1" / "card.md"
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    file.write_bytes(content)
    assert index.is_whole(own_build.zoo, NAME, 1, copy), "touched, not changed"
    content[10] ^= 1
    file.write_bytes(content)
    assert not index.is_whole(own_build.zoo, NAME, 1, copy)


def test_a_number_is_never_given_twice_and_what_is_deleted_leaves_the_index(own_build: SmallBuild) -> None:
    shutil.rmtree(own_build.zoo / "models" / NAME / "v1")
    write_metrics(own_build, "train", 0.7)
    own_build.release()
    own_build.index()
    assert set(index.read(own_build.zoo)[NAME]) == {2}


def test_changed_figures_are_not_those_of_the_release(own_build: SmallBuild) -> None:
    entry = json.loads((own_build.folder("index") / "entry.json").read_text())
    assert index.holds(own_build.zoo, NAME, 1, entry)
    file = own_build.zoo / index.FILE
    content = json.loads(file.read_text())
    content["releases"][NAME]["versions"]["1"]["value"] = 0.999
    file.write_text(json.dumps(content))
    assert not index.holds(own_build.zoo, NAME, 1, entry)
    own_build.index()
    assert index.holds(own_build.zoo, NAME, 1, entry)


def test_a_changed_manifest_is_not_taken_for_the_release(own_build: SmallBuild) -> None:
    file = own_build.zoo / "models" / NAME / "v1" / "release.json"
    content = json.loads(file.read_text())
    content["accuracy"]["lite"]["metrics"]["top1"] = 0.999
    file.chmod(0o644)
    file.write_text(json.dumps(content))
    assert own_build.release()["version"] == 2


def test_a_listed_version_that_is_gone_makes_the_index_step_run(own_build: SmallBuild) -> None:
    write_metrics(own_build, "train", 0.7)
    own_build.release()
    own_build.index()
    entry = json.loads((own_build.folder("index") / "entry.json").read_text())
    assert index.holds(own_build.zoo, NAME, 2, entry)
    shutil.rmtree(own_build.zoo / "models" / NAME / "v1")
    assert not index.holds(own_build.zoo, NAME, 2, entry)
    own_build.index()
    assert index.holds(own_build.zoo, NAME, 2, entry)
