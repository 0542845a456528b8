"""The manifest: canonical JSON of the committed message; generated code is current; images by its word."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from gossamer import BundleError, InputError, _images
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.bundle import manifest
from tests.conftest import ROOT


def test_generated_code_is_current():
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed: pip install 'gossamer[dev]'")
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "gen_protos.py"), "--check"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


def test_canonical_json():
    m = pb.Manifest(name="n", recipe_json='{"a":1}', arena_bytes=64)
    m.layers.add(name="x", macs=1 << 40, sparsity_percent=75)
    m.provenance.tools["z"] = "1"
    m.provenance.tools["a"] = "ü"
    data = manifest.dumps(m)
    assert (
        data
        == (
            '{"arena_bytes":64,"layers":[{"macs":"1099511627776","name":"x","sparsity_percent":75.0}],"name":"n",'
            '"provenance":{"tools":{"a":"ü","z":"1"}},"recipe_json":"{\\"a\\":1}"}'
        ).encode()
    )
    assert manifest.loads(data) == m
    assert manifest.to_dict(m)["layers"][0]["macs"] == 1 << 40
    assert list(json.loads(data)) == sorted(json.loads(data))


def test_unknown_fields_are_skipped_and_wrong_types_refused():
    assert manifest.loads(b'{"name":"n","later":[1]}').name == "n"
    for bad in (b"", b"{", b"[]", b'{"name":3}', b'{"layers":{}}'):
        with pytest.raises(BundleError):
            manifest.loads(bad)


def port(shape, dtype="float32", preset="unit", **options):
    p = pb.Port(name="x", dtype=dtype, shape=shape)
    p.image.CopyFrom(_images.preprocessing(shape, dtype, preset, **options))
    return p


def picture(width=8, height=4, colour=(255, 128, 0)):
    from PIL import Image

    return Image.new("RGB", (width, height), colour)


def test_image_values():
    x = _images.to_input(picture(), port([1, 3, 4, 4]))
    assert x.dtype == np.float32 and x.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(x[0, :, 0, 0], [1.0, 128 / 255, 0.0], rtol=1e-6)
    x = _images.to_input(picture(), port([1, 4, 4, 3], channels="bgr", preset="signed"))
    np.testing.assert_allclose(x[0, 1, 1], [-1.0, 128 / 127.5 - 1, 1.0], atol=1e-6)
    x = _images.to_input(picture(), port([1, 3, 4, 4], preset="imagenet"))
    np.testing.assert_allclose(x[0, 0, 0, 0], (1 - 0.485) / 0.229, rtol=1e-6)
    x = _images.to_input(picture(colour=(90, 90, 90)), port([1, 4, 4, 1], preset="raw"))
    np.testing.assert_array_equal(x, np.full((1, 4, 4, 1), 90, np.float32))


def test_image_bytes():
    x = _images.to_input(picture(), port([1, 4, 4, 3], "uint8", "raw"))
    np.testing.assert_array_equal(x[0, 0, 0], [255, 128, 0])
    x = _images.to_input(picture(), port([1, 4, 4, 3], "int8", "raw"))
    np.testing.assert_array_equal(x[0, 0, 0], [127, 0, -128])
    p = port([1, 4, 4, 3], "int8", "signed")
    p.scale, p.zero_point = 1 / 100, -10
    np.testing.assert_array_equal(_images.to_input(picture(), p)[0, 0, 0], [90, -10, -110])


def test_crop_keeps_the_aspect_ratio():
    from PIL import Image

    wide = Image.new("RGB", (300, 100))
    wide.paste((255, 255, 255), (100, 0, 200, 100))  # the middle third is white
    assert _images.to_input(wide, port([1, 3, 50, 50], resize="crop")).min() > 0.85  # the filter blurs the edge
    assert _images.to_input(wide, port([1, 3, 50, 50])).min() == 0.0


def test_no_image_input():
    assert _images.preprocessing([1, 10], "float32") is None
    assert _images.preprocessing([1, 7, 8, 9], "float32") is None
    with pytest.raises(InputError, match="unknown preprocessing"):
        _images.preprocessing([1, 3, 4, 4], "float32", "zero-one")
    with pytest.raises(InputError, match="does not say how"):
        _images.to_input(picture(), pb.Port(name="x", dtype="float32", shape=[1, 10]))


def test_scores():
    p = pb.Port(name="y", dtype="float32", shape=[1, 3])
    p.postprocessing.kind, p.postprocessing.logits = p.postprocessing.KIND_CLASSES, True
    p.postprocessing.labels[:] = ["a", "b", "c"]
    best, second, _ = _images.scores(np.array([[0.0, np.log(3.0), -50.0]]), p)
    assert (best.label, second.label) == ("b", "a")
    assert best.probability and best.value == pytest.approx(0.75)
    q = pb.Port(name="y", dtype="int8", shape=[1, 2], scale=1 / 256, zero_point=-128)
    q.postprocessing.kind = q.postprocessing.KIND_CLASSES
    best, _ = _images.scores(np.array([[-128 + 64, -128 + 192]], np.int8), q)
    assert (best.label, best.value) == ("class 1", 0.75)
    b = pb.Port(name="y", dtype="float32", shape=[1, 1])
    b.postprocessing.kind = b.postprocessing.KIND_BINARY
    b.postprocessing.labels[:] = ["no", "yes"]
    assert [s.label for s in _images.scores(np.array([[0.9]]), b)] == ["yes", "no"]
