"""Files that are no models, and models whose data lie in other files: each has one clear line."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from small_graphs import conv, model, node, one, tensor, value, weight

from zoo.errors import UnreadableModel
from zoo.graph import model_file
from zoo.graph.reading import read
from zoo.graph.view import NotKnown

LARGE = (16, 3, 8, 8)  # more elements than are copied
BYTES = 4 * 16 * 3 * 8 * 8


def written(folder: Path, content: onnx.ModelProto) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(content.SerializeToString())
    return file


def empty(folder: Path) -> Path:
    (folder / "empty.onnx").touch()
    return folder / "empty.onnx"


def text(folder: Path) -> Path:
    (folder / "page.onnx").write_text("<html>not found</html>")
    return folder / "page.onnx"


def pointer(folder: Path) -> Path:
    (folder / "lfs.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    return folder / "lfs.onnx"


def truncated(folder: Path) -> Path:
    file = written(folder, model([conv()], [weight("w", *LARGE)]))
    file.write_bytes(file.read_bytes()[:-100])
    return file


def graphless(folder: Path) -> Path:
    return written(folder, onnx.ModelProto(ir_version=8))


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.onnx")
    return folder / "pipe.onnx"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "no.onnx", "no.onnx: no such file"),
        (lambda folder: folder, "is a folder; name the .onnx file in it"),
        (empty, "empty.onnx: is empty; export the model again"),
        (text, "page.onnx: not an ONNX file, or a damaged one; export the model again"),
        (pointer, "this is a pointer of Git LFS, not the model; fetch the model with git lfs pull"),
        (truncated, "not an ONNX file, or a damaged one"),
        (graphless, "not an ONNX file: no graph or no IR version in it"),
        (pipe, "is not a regular file"),
        (lambda folder: folder / "a\0b.onnx", "cannot be read: "),
    ],
)
def test_what_is_no_model(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(UnreadableModel, match=re.escape(message)) as caught:
        read(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_file_of_more_than_protobuf_takes(tmp_path: Path) -> None:
    file = tmp_path / "large.onnx"
    with file.open("wb") as opened:
        opened.truncate(model_file.LARGEST + 1)  # without taking space on the disk
    with pytest.raises(UnreadableModel, match=r"has 2.0 GiB, more than .* save its weights as external data"):
        read(file)


def external(**entries: str) -> TensorProto:
    """A weight whose data are elsewhere."""
    found = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=LARGE, data_location=TensorProto.EXTERNAL)
    for key, entry in entries.items():
        found.external_data.add(key=key, value=entry)
    return found


def with_external(folder: Path, **entries: str) -> Path:
    return written(folder, model([conv()], [external(**entries)]))


def test_external_data_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    array = np.arange(BYTES // 4, dtype=np.float32).reshape(LARGE)
    (tmp_path / "inner" / "w.bin").write_bytes(b"12345678" + array.tobytes() + b"rest")
    graph = read(with_external(tmp_path, location="inner/w.bin", offset="8", length=str(BYTES)))
    found = one(graph, "Conv").input(1)
    assert (found.shape, found.dtype, graph.initializer_bytes) == (LARGE, "float32", BYTES)
    assert (found.data() == array).all()
    (tmp_path / "inner" / "w.bin").unlink()
    with pytest.raises(NotKnown, match="the data of w: "):
        found.data()


def test_small_external_data_tell_shapes(tmp_path: Path) -> None:
    shape = TensorProto(name="s", data_type=TensorProto.INT64, dims=[2], data_location=TensorProto.EXTERNAL)
    shape.external_data.add(key="location", value="s.bin")
    (tmp_path / "s.bin").write_bytes(np.array([3, 64]).tobytes())
    graph = read(written(tmp_path, model([node("Reshape", "x s")], [shape])))
    assert graph.outputs[0].dims == (3, 64)


def test_a_model_in_memory_leads_to_no_other_file() -> None:
    graph = read(model([conv()], [external(location="w.bin")]))
    assert graph.outputs[0].dims == (1, 16, 1, 1)
    assert graph.notes == ("The data of 1 tensors are in other files, which a model in memory does not lead to.",)
    with pytest.raises(NotKnown, match="the data of w, which are in another file"):
        one(graph, "Conv").input(1).data()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "tensor 'w': names no file for its data"),
        ({"location": "a\nb"}, "tensor 'w': names no file for its data"),
        ({"location": "/etc/passwd"}, "tensor 'w': its data lie at the absolute path /etc/passwd"),
        ({"location": "C:\\w.bin"}, "tensor 'w': its data lie at the absolute path C:"),
        ({"location": "../w.bin"}, "tensor 'w': its data lie outside of the model's folder, at ../w.bin"),
        ({"location": "inner/../../w.bin"}, "tensor 'w': its data lie outside of the model's folder"),
        ({"location": "inner\\..\\w.bin"}, "tensor 'w': its data lie outside of the model's folder"),
        ({"location": "link.bin"}, "tensor 'w': its data lie behind the symbolic link link.bin"),
        ({"location": "linked/w.bin"}, "tensor 'w': its data lie behind the symbolic link linked/w.bin"),
        ({"location": "inner"}, "tensor 'w': its data are in inner, which is no regular file"),
        ({"location": "."}, "tensor 'w': its data are in ., which is no regular file"),
        ({"location": "none.bin"}, "tensor 'w': its data are in none.bin, which cannot be read: No such file"),
        ({"location": "w.bin", "offset": "-4"}, "tensor 'w': offset is '-4', not a number of bytes"),
        ({"location": "w.bin", "length": "many"}, "tensor 'w': length is 'many', not a number of bytes"),
        ({"location": "w.bin", "offset": "4", "length": str(BYTES)}, f"lies at bytes 4 to {BYTES + 4} of w.bin"),
        ({"location": "w.bin", "offset": "99999999"}, f"lies at bytes 99999999 of w.bin, which has {BYTES}"),
        ({"location": "w.bin", "length": "12"}, f"has 12 bytes in w.bin, its shape and type take {BYTES}"),
        ({"location": "w.bin", "offset": "4"}, f"has {BYTES - 4} bytes in w.bin, its shape and type take {BYTES}"),
    ],
)
def test_external_data_that_are_not_read(tmp_path: Path, entries: dict[str, str], message: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(BYTES))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "w.bin").write_bytes(bytes(BYTES))
    (tmp_path / "link.bin").symlink_to(tmp_path / "w.bin")
    (tmp_path / "linked").symlink_to(tmp_path / "inner")
    with pytest.raises(UnreadableModel, match=re.escape(message)) as caught:
        read(with_external(tmp_path, **entries))
    assert "\n" not in str(caught.value)


def test_a_tensor_with_a_size_or_type_that_none_has() -> None:
    with pytest.raises(UnreadableModel, match="the model: tensor 'w' has the size -1"):
        read(model([conv()], [TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[16, -1, 3, 3])]))
    with pytest.raises(UnreadableModel, match="tensor 'w' has the unknown type 999"):
        read(model([conv()], [TensorProto(name="w", data_type=999, dims=[1])]))
    with pytest.raises(UnreadableModel, match="tensor 'w' has the unknown type 0"):
        read(model([conv()], [TensorProto(name="w", dims=[1])]))


def test_a_damaged_weight_is_not_known() -> None:
    short = weight("w", *LARGE)
    short.raw_data = short.raw_data[:-4]
    with pytest.raises(NotKnown, match="the data of w: "):
        one(read(model([conv()], [short])), "Conv").input(1).data()


@pytest.mark.parametrize("name", [b"\xff\xfe\xfd", b"a\nb"])
def test_names_that_are_no_text(tmp_path: Path, name: bytes) -> None:
    content = model([node("Relu", "QQQ")], inputs=[value("QQQ", (1, 3))]).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content.replace(b"QQQ", name))
    with pytest.raises(UnreadableModel, match=r"the name .* of a value is no text; the file is damaged") as caught:
        read(tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_a_node_without_operator_and_an_attribute_without_type() -> None:
    with pytest.raises(UnreadableModel, match="the node that makes 'y' has no operator"):
        read(model([node("")]))
    untyped = node("Relu")
    untyped.attribute.add(name="alpha")
    with pytest.raises(UnreadableModel, match="the attribute 'alpha' of Relu '' has no type"):
        read(model([untyped]))


def test_the_model_is_not_changed() -> None:
    content = model([node("Relu", "b", "y"), conv("x w", "b")], [weight("w", *LARGE), tensor("unused", 1.0)])
    before = content.SerializeToString()
    read(content)
    assert content.SerializeToString() == before


def test_weights_of_more_than_two_gigabytes_are_not_loaded(tmp_path: Path) -> None:
    dims = (1024, 1024, 28, 28)
    with (tmp_path / "w.bin").open("wb") as opened:
        opened.truncate(4 * 1024 * 1024 * 28 * 28)  # 3.1 GiB, without taking space on the disk
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    huge.external_data.add(key="location", value="w.bin")
    graph = read(written(tmp_path, model([conv()], [huge], inputs=[value("x", (1, 1024, 28, 28))])))
    assert graph.initializer_bytes == 4 * 1024 * 1024 * 28 * 28 > model_file.LARGEST
    assert graph.outputs[0].dims == (1, 1024, 1, 1)
    assert one(graph, "Conv").input(1).is_constant
