"""Triton kernels compiled for any NVIDIA GPU without one, with the options that the operators launch them with."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.kernels import operators

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
THREADS_OF_A_WARP = 32
ALIGNED = 16
"""Triton compiles pointers and integers that are multiples of 16 apart from others."""
POINTERS = {torch.float16: "*fp16", torch.float32: "*fp32"}
BUILD_OPTIONS = ("num_warps", "num_stages")


@dataclass(frozen=True)
class Launch:
    """A kernel, and everything of its launch that it is compiled for."""

    kernel: Any
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    aligned: tuple[int, ...]
    """Positions of parameters that are multiples of 16."""
    options: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        values = "-".join(str(int(value)) for name, value in self.constants if name != "EPSILON")
        return f"{self.kernel.__name__}-{values}"


@dataclass(frozen=True)
class Build:
    """What a compiled kernel needs of a multiprocessor."""

    registers: int
    """Of a thread."""
    spilled_bytes: int
    """Of a thread: stack and local memory."""
    shared_bytes: int
    """Of a block."""
    ptx: str


@contextmanager
def recorded_launches() -> Iterator[list[Launch]]:
    """Collect the launches of the operators that are called meanwhile, without running a kernel."""
    launches: list[Launch] = []

    def record(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        launch = _launch_of(kernel, arguments, options)
        if launch not in launches:
            launches.append(launch)

    with patch.object(operators, "_launch", record):
        yield launches


def _launch_of(kernel: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Launch:
    given = dict(zip(kernel.arg_names, arguments, strict=False))
    types, aligned = {}, []
    for position, parameter in enumerate(kernel.params):
        value = given.get(parameter.name)
        if isinstance(value, torch.Tensor):
            types[parameter.name] = POINTERS[value.dtype]
            aligned.append(position)
        elif parameter.is_constexpr:
            types[parameter.name] = "constexpr"
        else:
            types[parameter.name] = "i32"
            if value % ALIGNED == 0 and not parameter.do_not_specialize:
                aligned.append(position)
    constants = tuple((name, value) for name, value in options.items() if name not in BUILD_OPTIONS)
    built = tuple((name, options[name]) for name in BUILD_OPTIONS if name in options)
    return Launch(kernel, tuple(types.items()), constants, tuple(aligned), built)


def build(launch: Launch, capability: int) -> Build:
    """Compile a launch for a compute capability, such as 90, and read what the binary needs."""
    source = ASTSource(
        fn=launch.kernel,
        signature=dict(launch.signature),
        constexprs={(launch.kernel.arg_names.index(name),): value for name, value in launch.constants},
        attrs={(position,): [["tt.divisibility", ALIGNED]] for position in launch.aligned},
    )
    target = GPUTarget("cuda", capability, THREADS_OF_A_WARP)
    compiled = triton.compile(source, target=target, options=dict(launch.options))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [CUOBJDUMP, "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert found, usage
    registers, stack, local = map(int, found.groups())
    return Build(registers, stack + local, compiled.metadata.shared, compiled.asm["ptx"])
