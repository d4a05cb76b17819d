"""Measurement of a plan's parity with its PyTorch network."""

import logging
from collections.abc import Callable
from pathlib import Path

from export.plan_model import PlanModel, PlanRunError, open_plan
from export.samples import noise_samples
from export.shapes import shapes_within
from export.tensorrt_library import TensorRTUnavailable
from export.verify import GATES, model_of_plan, parity_of
from models.artifact import ArtifactError, Manifest, sha256_of
from models.checkpoint import load_network
from models.plan_manifest import PlanManifest
from models.variants import variant

WEIGHTS_FILE = "weights.safetensors"
"""Weights file in the folder of the default artifact."""
NO_WEIGHTS = "no weights were found to compare with; pass them with --weights"

OpenPlan = Callable[[Path, PlanManifest], PlanModel]

logger = logging.getLogger(__name__)


def find_weights(artifact: Path, manifest: Manifest, named: Path | None) -> Path | None:
    """Return the weights that `artifact` was exported from: `named`, or the file in its folder; None if missing.

    Raises `ArtifactError` if `named` does not exist or the hash differs.
    """
    weights = named or artifact / WEIGHTS_FILE
    if not weights.is_file():
        if named is None:
            return None
        raise ArtifactError(f"weights file {weights} does not exist")
    if manifest.weights_sha256 not in (None, sha256_of(weights)):
        raise ArtifactError(f"{weights} is not the file that {artifact} was exported from (its sha256 differs)")
    return weights


def with_parity(
    manifest: PlanManifest, folder: Path, weights: Path | None, open_plan: OpenPlan = open_plan
) -> PlanManifest:
    """Add to `manifest` the measured parity of the plan in `folder`, or the reason why it could not be measured.

    Measures every noise sample that a profile accepts, including each profile's smallest and optimal shape. Raises
    `ParityError` if the plan fails the gate of its precision.
    """
    try:
        plan = open_plan(folder, manifest)
        if weights is None:
            raise PlanRunError(NO_WEIGHTS)
    except (PlanRunError, TensorRTUnavailable, ArtifactError) as error:
        return manifest.model_copy(update={"parity": (), "parity_unmeasured": str(error)})
    logger.info("loading %s", weights)
    network = load_network(weights, variant(manifest.variant))
    model = model_of_plan(manifest.model_file, plan, manifest)
    samples = noise_samples(shapes_within(manifest.profiles))
    parity = parity_of(network, model, samples, GATES[manifest.precision])
    return manifest.model_copy(update={"parity": parity, "parity_unmeasured": None})
