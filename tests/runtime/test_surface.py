"""The public surfaces, listed: a name added or removed by accident fails here. Import time, types, error hierarchy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gossamer
import gossamer_runtime
import gossamer_runtime._errors

GOSSAMER = """
Agreement BackendError BundleError CalibrationError CompileError GossamerError InputError KeyFileError LayerRow
LibraryError MismatchError ModelError OptimizeResult OutOfMemoryError OutputError Recipe RecipeError SearchResult
SignatureError UnsupportedError __version__ load load_recipe optimize optimize_auto verify_against
"""
RUNTIME = """
BackendError BundleError GossamerError InputError LibraryError OpTime OutOfMemoryError Port Profile Session
SignatureError UnsupportedError __version__ detect_isa
"""


def test_public_names():
    assert sorted(gossamer.__all__) == sorted(GOSSAMER.split())
    assert sorted(gossamer_runtime.__all__) == sorted(RUNTIME.split())
    for module in (gossamer, gossamer_runtime):
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert set(dir(module)) == set(module.__all__)
        assert not hasattr(module, "no_such_name")


def test_public_names_are_documented():
    for module in (gossamer, gossamer_runtime):
        assert module.__doc__
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value):
                assert value.__doc__ and len(value.__doc__) > 20, name


def test_typed():
    for module in (gossamer, gossamer_runtime):
        assert (Path(module.__file__).parent / "py.typed").is_file()


def test_import_is_light():
    """What makes the import take 15 ms (``python -m tools.footprint``): nothing heavy is loaded before it is used."""
    code = (
        "import sys, gossamer\n"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'onnx_ir', 'matplotlib', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_errors_share_one_hierarchy():
    assert gossamer.GossamerError is gossamer_runtime.GossamerError
    for name in gossamer.__all__:
        value = getattr(gossamer, name)
        if name.endswith("Error"):
            assert issubclass(value, gossamer.GossamerError)
    error = gossamer.ModelError("it broke", where="file.onnx", hint="mend it")
    assert str(error).splitlines() == ["it broke", "  where: file.onnx", "  do:    mend it"]


def test_documented_exit_codes_are_the_real_ones():
    from gossamer import _errors

    for module, doc in ((_errors, _errors.__doc__), (gossamer_runtime._errors, gossamer_runtime._errors.__doc__)):
        drawn = dict(re.findall(r"(\w+Error) +(\d+)  ", doc))
        assert len(drawn) >= 7
        for name, code in drawn.items():
            assert getattr(module, name).exit_code == int(code), name
    codes = [getattr(gossamer, n).exit_code for n in gossamer.__all__ if n.endswith("Error")]
    assert len(set(codes)) == len(codes)
