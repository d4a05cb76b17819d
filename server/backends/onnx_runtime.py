"""The ONNX Runtime backend: an exported artifact on the CPU."""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.artifact import MODEL_FILE, ArtifactError, Manifest
from server.backends.base import BackendInfo, Pixels
from server.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    import onnxruntime

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
PROVIDER = "CPUExecutionProvider"
LOG_ERRORS_ONLY = 3
# A run of at most a half of the pixels that the arena has grown for makes it shrink.
RELEASE_BELOW = 2


class OnnxBackend:
    """Serves the artifact in a folder, after checking the file against its manifest and the session against both."""

    def __init__(self, artifact: Path, threads: int, max_batch: int) -> None:
        self._artifact = artifact
        self._threads = threads
        self._max_batch = max_batch
        self._session: onnxruntime.InferenceSession | None = None
        self._releasing: onnxruntime.RunOptions | None = None
        self._held_pixels = 0
        self._input = self._output = ""

    def start(self) -> BackendInfo:
        """Load and check the artifact; BackendUnavailable says what is wrong with it or with the installation."""
        try:
            manifest = Manifest.load(self._artifact)
            manifest.verify(self._artifact)
        except ArtifactError as error:
            raise BackendUnavailable(f"the artifact cannot be served: {error}") from error
        ort = _import_onnxruntime()
        try:
            session = ort.InferenceSession(
                self._artifact / MODEL_FILE, _session_options(ort, self._threads), providers=[PROVIDER]
            )
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise BackendUnavailable(f"onnxruntime cannot load {self._artifact / MODEL_FILE}: {error}") from error
        _check_session(session, manifest)
        self._session, self._releasing = session, _releasing_options(ort)
        self._input, self._output = manifest.input_name, manifest.output_name
        return BackendInfo(
            backend="onnx",
            device="cpu",
            artifact=manifest.name,
            precision=manifest.precision,
            size_multiple=manifest.size_multiple,
            max_batch=self._max_batch,
        )

    def run(self, batch: Pixels) -> Pixels:
        """Restore (N, 3, H, W); BackendError where the run fails, caused by onnxruntime's own exception."""
        if self._session is None:
            raise BackendError("the ONNX Runtime backend is not started")
        try:
            (output,) = self._session.run([self._output], {self._input: batch}, self._options_for(batch))
        except Exception as error:
            raise BackendError(f"onnxruntime failed on a batch of shape {batch.shape}") from error
        return output  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Release the session and its memory."""
        self._session = self._releasing = None
        self._held_pixels = 0

    def _options_for(self, batch: Pixels) -> "onnxruntime.RunOptions | None":
        """Let memory follow the load: give the arena back once runs have become much smaller than what it holds.

        Giving it back after every run would cost each one about 15 % in page faults. What the very first run took
        is never given back, so the warm-up should be small.
        """
        pixels = batch.size // 3
        if pixels * RELEASE_BELOW > self._held_pixels:
            self._held_pixels = max(self._held_pixels, pixels)
            return None
        self._held_pixels = pixels
        return self._releasing


def _import_onnxruntime() -> Any:
    installed = [name for name in DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        raise BackendUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
            "uninstall both, then install this package with exactly one of the extras `cpu` and `gpu`"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailable(
            "onnxruntime is not installed or does not load here "
            f"({error}): install this package with the extra `cpu`, or `gpu` for an NVIDIA device"
        ) from error
    return onnxruntime


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _session_options(ort: Any, threads: int) -> "onnxruntime.SessionOptions":
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = LOG_ERRORS_ONLY
    # A plan of memory is kept for each input shape, so with photos of every size it only grows.
    options.enable_mem_pattern = False
    # Between runs the cores belong to decoding and encoding.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _releasing_options(ort: Any) -> "onnxruntime.RunOptions":
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _check_session(session: Any, manifest: Manifest) -> None:
    expected_shape = tuple(manifest.input_shape)
    for kind, nodes, expected_name in (
        ("input", session.get_inputs(), manifest.input_name),
        ("output", session.get_outputs(), manifest.output_name),
    ):
        names = [node.name for node in nodes]
        if names != [expected_name]:
            raise BackendUnavailable(f"the model's {kind}s are {names}, its manifest says ['{expected_name}']")
        if nodes[0].type != "tensor(float)":
            raise BackendUnavailable(f"the model's {kind} is {nodes[0].type} instead of tensor(float)")
        if not _shapes_agree(nodes[0].shape, expected_shape, exact=kind == "input"):
            raise BackendUnavailable(f"the model's {kind} has shape {nodes[0].shape}, its manifest {expected_shape}")


def _shapes_agree(found: list[int | str | None], expected: tuple[object, ...], *, exact: bool) -> bool:
    """Compare axis by axis: a number must be equal, a name must be free; tracing may lose an output's fixed sizes."""
    if len(found) != len(expected):
        return False
    for got, wanted in zip(found, expected, strict=True):
        fixed = isinstance(got, int)
        if isinstance(wanted, int):
            if (fixed and got != wanted) or (exact and not fixed):
                return False
        elif fixed:
            return False
    return True
