"""Harmful and wrong blobs are refused before a job exists, with the right error, and leave no trace."""

from __future__ import annotations

import io
import pickle
import stat
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest

from gossamer._errors import InputError, ModelError, UnsupportedError
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.optimizer.admission import Admission
from gossamer_services.optimizer.jobs import Blob, Kind, State
from tests.finetune.conftest import network
from tests.optimizer.conftest import npz


class Bomb:
    def __reduce__(self):
        return (open, ("/tmp/gossamer-was-here", "w"))


def zipped(members, *, link=False):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFLNK if link else stat.S_IFREG) << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def external():
    proto = network()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/shadow")
    return proto.SerializeToString()


def pt2(name, data):
    return zipped([("model/models/model.json", b"{}"), (f"model/{name}", data)])


WEIGHTS = "data/weights/model_weights_config.json"
MODELS = {
    "external path": (external, Kind.ONNX, ModelError, "lies in another file"),
    "pickled weights": (
        lambda: pt2(WEIGHTS, b'{"config": {"w": {"use_pickle": true, "path_name": "weight_0"}}}'),
        Kind.PT2,
        UnsupportedError,
        "'w' is stored as a pickle, which can run any code",
    ),
    "pickled file": (
        lambda: zipped([("archive/data.pkl", pickle.dumps(Bomb()))]),
        Kind.PT2,
        UnsupportedError,
        "a pickled torch file, which can run any code",
    ),
    "bare pickle": (lambda: pickle.dumps(Bomb()), Kind.PT2, UnsupportedError, "can run any code"),
    "native code": (lambda: pt2("data/aotinductor/x.so", b"\x7fELF"), Kind.PT2, UnsupportedError, "objects and code"),
    "another format": (
        lambda: network().SerializeToString(),
        Kind.TFLITE,
        ModelError,
        "the bytes are onnx, not tflite",
    ),
    "noise": (lambda: bytes(range(256)) * 8, Kind.ONNX, ModelError, "not a model"),
    "empty": (lambda: b"", Kind.ONNX, ModelError, "the model file is empty"),
    "a bundle": (lambda: b"GOSSAMER" + bytes(64), Kind.ONNX, ModelError, "a compiled bundle"),
}
DATA = {
    "object array": (lambda: npz(x=np.array([Bomb()], object)), Kind.NPZ, "holds pickled objects"),
    "no archive": (lambda: b"PK\x03\x04nonsense", Kind.NPZ, "not an .npz"),
    "pictures as arrays": (lambda: zipped([("a/1.png", b"x")]), Kind.NPZ, "is no array"),
    "path above": (lambda: zipped([("../x.png", b"x")]), Kind.ZIP, "path leaves the archive"),
    "absolute path": (lambda: zipped([("/etc/cron.d/x", b"x")]), Kind.ZIP, "path leaves the archive"),
    "backslashes": (lambda: zipped([("..\\x.png", b"x")]), Kind.ZIP, "path leaves the archive"),
    "link": (lambda: zipped([("a", b"/etc/passwd")], link=True), Kind.ZIP, "a link or a device"),
    "bomb": (lambda: zipped([("a.png", bytes(4 << 20))]), Kind.ZIP, "unpacks to far more than it is"),
    "empty": (lambda: zipped([]), Kind.ZIP, "holds no files"),
    "twice": (lambda: zipped([("a.png", b"1"), ("./a.png", b"2")]), Kind.ZIP, "two members share a name"),
}


@pytest.fixture
def admission(bench):
    return Admission(bench.store, bench.blobs, bench.path / "vetting")


@pytest.mark.parametrize("case", MODELS)
def test_a_harmful_or_wrong_model_is_refused(bench, admission, case):
    make, kind, error, message = MODELS[case]
    spec = replace(bench.spec(), model=Blob(bench.put(make()), kind))
    with pytest.raises(error, match=message) as caught:
        admission.check(spec)
    assert caught.value.where == "spec.model_sha256"
    assert bench.store.vetted(spec.model.digest, "model") is None and bench.store.counts()[State.QUEUED] == 0
    assert not list((bench.path / "vetting").iterdir())


@pytest.mark.parametrize("case", DATA)
def test_harmful_or_wrong_data_are_refused(bench, admission, case):
    make, kind, message = DATA[case]
    spec = bench.spec(calibration=Blob(bench.put(make()), kind))
    with pytest.raises(InputError, match=message) as caught:
        admission.check(spec)
    assert caught.value.where == "spec.calibration"


def test_what_is_harmless_is_looked_into_once(bench, admission, monkeypatch):
    spec = bench.spec(calibration=Blob(bench.put(npz(image=np.zeros((4, 3, 8, 8), np.float32))), Kind.NPZ))
    spec = replace(spec, training=Blob(bench.put(zipped([("cat/1.png", b"x"), ("dog/1.png", b"y")])), Kind.ZIP))
    admission.check(spec)
    assert bench.store.vetted(spec.model.digest, "model") == ".onnx"
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("looked again"))
    admission.check(spec)


def test_blobs_that_are_missing_or_no_digests(bench, admission):
    with pytest.raises(ServiceError, match="the model is not in the registry") as caught:
        admission.check(replace(bench.spec(), model=Blob("0" * 64, Kind.ONNX)))
    assert (caught.value.code, caught.value.reason) == (Code.NOT_FOUND, "BLOB_NOT_FOUND")
    assert caught.value.metadata == {"sha256": "0" * 64}
    with pytest.raises(InputError, match="not a digest"):
        admission.check(replace(bench.spec(), model=Blob("../../etc/passwd", Kind.ONNX)))
