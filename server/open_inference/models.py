"""Models: the names of the served models in the protocol, and their metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from server.backends import registry
from server.errors import UnknownModel

SERVER_NAME = "promptir-serve"
DEFAULT = "promptir"
VERSION = "1"
INPUT, OUTPUT = "image", "restored"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics", "model_repository")
MAX_IMAGES = 64
"""Most images of a tensor, and so of a request."""

_SHOWN_CHARACTERS = 60
_CONFIG_TYPES = {"FP32": "TYPE_FP32", "UINT8": "TYPE_UINT8", "BYTES": "TYPE_STRING"}


class Datatype(StrEnum):
    """The datatypes of a tensor: RGB pixels as floats in [0, 1] or as bytes, or whole image files."""

    FP32 = "FP32"
    UINT8 = "UINT8"
    BYTES = "BYTES"


@dataclass(frozen=True, slots=True)
class Model:
    """A name of a served model. All names take all datatypes; `datatype` is the one in its metadata.

    Metadata can name one datatype only, and clients such as perf_analyzer build their requests from it.
    """

    name: str
    datatype: Datatype
    served: str
    """The name under which the server knows the model."""

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape of one image; -1 stands for any size."""
        return (1,) if self.datatype is Datatype.BYTES else (3, -1, -1)

    def metadata(self, backend: str) -> dict[str, Any]:
        """Build the document of `GET /v2/models/{name}`; the first dimension of each shape is the batch."""
        shape = [-1, *self.dims]
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": _platform(backend),
            "inputs": [{"name": INPUT, "datatype": self.datatype.value, "shape": shape}],
            "outputs": [{"name": OUTPUT, "datatype": self.datatype.value, "shape": shape}],
        }

    def config(self, backend: str) -> dict[str, Any]:
        """Build the part of Triton's model configuration that clients read."""
        kind, dims = _CONFIG_TYPES[self.datatype], list(self.dims)
        return {
            "name": self.name,
            "platform": _platform(backend),
            "backend": backend,
            "max_batch_size": MAX_IMAGES,
            "input": [{"name": INPUT, "data_type": kind, "dims": dims}],
            "output": [{"name": OUTPUT, "data_type": kind, "dims": dims}],
            "model_transaction_policy": {"decoupled": False},
        }


_FORMS = {"": Datatype.FP32, "-uint8": Datatype.UINT8, "-file": Datatype.BYTES}
"""What follows the name of a model in each of its three names."""


class Models:
    """The models of the protocol by name: `promptir` is the default model of the server, whatever it is called.

    Where a server has several, each has its own names as well; they go before the general ones.
    """

    def __init__(self, served: Sequence[str]) -> None:
        names = [(DEFAULT, served[0]), *((name, name) for name in served if len(served) > 1)]
        forms = [Model(name + suffix, kind, of) for name, of in names for suffix, kind in _FORMS.items()]
        own = [Model(name, Datatype.FP32, name) for name in served if len(served) > 1]  # even if one is called a-file
        self.by_name = {model.name: model for model in (*forms, *own)}

    def find(self, name: str, version: str = "") -> Model:
        """Find a model by name and, if given, version; raises UnknownModel."""
        model = self.by_name.get(name)
        if model is None:
            known = list(self.by_name)
            raise UnknownModel(f"There is no model {shown(name)}; there are {', '.join(known)}.", models=known)
        if version not in ("", VERSION):
            raise UnknownModel(f"{name} has no version {shown(version)}; it has {VERSION}.", versions=[VERSION])
        return model


def shown(text: str) -> str:
    """Quote a name from a request, shortened for an error."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def _platform(backend: str) -> str:
    return registry()[backend].platform or backend
