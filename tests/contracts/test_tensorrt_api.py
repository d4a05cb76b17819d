"""Tests that the TensorRT API in use exists in Enterprise TensorRT and in TensorRT-RTX."""

import ast
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RunPython = Callable[..., subprocess.CompletedProcess[str]]

PROJECT = Path(__file__).resolve().parents[2]

API = {
    "": ("__version__", "float32", "int64"),
    "Builder": (
        "build_serialized_network",
        "create_builder_config",
        "create_network",
        "create_optimization_profile",
    ),
    "BuilderFlag": ("TF32", "VERSION_COMPATIBLE"),
    "DataType": ("FLOAT", "HALF", "BF16"),
    "ExecutionContextAllocationStrategy": ("USER_MANAGED",),
    "HardwareCompatibilityLevel": ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"),
    "IBuilderConfig": (
        "add_optimization_profile",
        "builder_optimization_level",
        "clear_flag",
        "create_timing_cache",
        "hardware_compatibility_level",
        "progress_monitor",
        "set_flag",
        "set_memory_pool_limit",
        "set_timing_cache",
    ),
    "ICudaEngine": (
        "create_execution_context",
        "create_runtime_config",
        "device_memory_size_v2",
        "get_tensor_dtype",
        "get_tensor_name",
        "num_io_tensors",
        "num_optimization_profiles",
    ),
    "IExecutionContext": (
        "execute_async_v3",
        "set_device_memory",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    ),
    "ILayer": ("get_output", "type"),
    "ILogger": ("ERROR", "INTERNAL_ERROR", "log"),
    "INetworkDefinition": ("get_input", "get_layer", "get_output", "num_inputs", "num_layers", "num_outputs"),
    "IOptimizationProfile": ("set_shape",),
    "IProgressMonitor": ("phase_finish", "phase_start", "step_complete"),
    "IRuntimeConfig": ("set_execution_context_allocation_strategy",),
    "ITensor": ("dtype", "name", "shape"),
    "ITimingCache": ("serialize",),
    "LayerType": ("CONVOLUTION", "MATRIX_MULTIPLY", "NORMALIZATION", "REDUCE", "SOFTMAX"),
    "MemoryPoolType": ("WORKSPACE",),
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "OnnxParser": ("get_error", "num_errors", "parse_from_file"),
    "ParserError": ("code", "desc", "node_name", "node_operator"),
    "Runtime": ("deserialize_cuda_engine", "engine_host_code_allowed"),
}
"""Class (or "" for the module) -> every attribute of it that `export` or `server` uses."""

RTX_API = {
    "ComputeCapability": (),
    "CudaGraphStrategy": ("WHOLE_GRAPH_CAPTURE",),
    "IRuntimeCache": ("deserialize", "serialize"),
    "IRuntimeConfig": ("create_runtime_cache", "cuda_graph_strategy", "set_runtime_cache"),
}
"""Used only behind a `hasattr` for a class that Enterprise TensorRT does not have."""
RTX_MARKS = ("ComputeCapability", "CudaGraphStrategy")
"""The classes that those tests ask for."""

KEYWORDS = {"IBuilderConfig.set_timing_cache": ("ignore_mismatch",)}

RECEIVERS = {
    "export/plan_builder.py": {
        "_builder": "Builder",
        "config": "IBuilderConfig",
        "created": "IOptimizationProfile",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "cache": "ITimingCache",
    },
    "export/plan_model.py": {
        "engine": "ICudaEngine",
        "context": "IExecutionContext",
        "_context": "IExecutionContext",
        "runtime": "Runtime",
    },
    "export/layer_audit.py": {"network": "INetworkDefinition", "layer": "ILayer"},
    "export/to_tensorrt.py": {},
    "export/build_log.py": {},
    "export/build_progress.py": {},
    "server/backends/tensorrt_plan.py": {
        "engine": "ICudaEngine",
        "context": "IExecutionContext",
        "config": "IRuntimeConfig",
        "runtime": "Runtime",
        "kernels": "IRuntimeCache",
        "_kernels": "IRuntimeCache",
    },
    "server/backends/plan_runs.py": {"context": "IExecutionContext"},
}
"""Source file -> names in it that hold an object of TensorRT, and its class."""

PROBE = """
import importlib, json, sys
trt, wanted, keywords = importlib.import_module(sys.argv[1]), *map(json.loads, sys.argv[2:])
missing = []
for owner, attributes in wanted.items():
    found = getattr(trt, owner, None) if owner else trt
    if found is None:
        missing.append(owner)
    missing += [f"{owner}.{name}" for name in attributes if found is not None and not hasattr(found, name)]
for function, names in keywords.items():
    owner, name = function.split(".")
    signature = getattr(getattr(trt, owner), name).__doc__
    missing += [f"{function}({keyword})" for keyword in names if f"{keyword}:" not in signature]
print(json.dumps({"version": trt.__version__, "missing": missing}))
"""


def used_attributes(source: Path, receivers: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Return (class, attribute) for each attribute of the library or its objects that a source file reads."""
    for node in ast.walk(ast.parse(source.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        owner = _name(node.value)
        if owner in ("trt", "_trt"):
            yield ("", node.attr)
        elif owner in receivers:
            yield (receivers[owner], node.attr)
        elif isinstance(node.value, ast.Attribute) and _name(node.value.value) in ("trt", "_trt"):
            yield (node.value.attr, node.attr)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def listed(owner: str, attribute: str) -> bool:
    if not owner and (attribute in API or attribute in RTX_API or attribute == "__name__"):
        return True  # a class of the module
    return attribute in (*API.get(owner, ()), *RTX_API.get(owner, ())) or attribute in ("__init__",)


@pytest.mark.parametrize("source", RECEIVERS)
def test_every_attribute_a_file_uses_is_listed(source: str) -> None:
    used = set(used_attributes(PROJECT / source, RECEIVERS[source]))
    assert used, "the file uses nothing of TensorRT any more"
    assert sorted(f"{owner}.{name}" for owner, name in used if not listed(owner, name)) == []


def test_no_file_uses_tensorrt_unseen() -> None:
    using = {
        path.relative_to(PROJECT).as_posix()
        for package in ("export", "models", "server")
        for path in (PROJECT / package).rglob("*.py")
        if any(used_attributes(path, {}))
    }
    assert using <= set(RECEIVERS)


def test_enterprise_tensorrt_has_all_that_is_listed(run_python: RunPython, enterprise_libraries: Path) -> None:
    found = run_python("-c", PROBE, "tensorrt", json.dumps(API), json.dumps(KEYWORDS), libraries=enterprise_libraries)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["missing"] == []


def test_enterprise_tensorrt_has_none_of_the_classes_that_mark_the_other_flavour(
    run_python: RunPython, enterprise_libraries: Path
) -> None:
    marks = dict.fromkeys(RTX_MARKS, ())
    found = run_python("-c", PROBE, "tensorrt", json.dumps(marks), "{}", libraries=enterprise_libraries)
    assert json.loads(found.stdout)["missing"] == list(RTX_MARKS)


@pytest.mark.parametrize("listing", [API, RTX_API], ids=["shared", "its own"])
def test_tensorrt_rtx_has_all_that_is_listed(run_python: RunPython, listing: dict[str, tuple[str, ...]]) -> None:
    found = run_python("-c", PROBE, "tensorrt_rtx", json.dumps(listing), json.dumps(KEYWORDS))
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["missing"] == []
