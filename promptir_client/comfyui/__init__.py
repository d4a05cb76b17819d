"""ComfyUI node that restores a batch of images with a PromptIR server."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from promptir_client import Client

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

AT_ONCE = 4
"""Concurrent requests: enough for the server to batch them."""
_WHITE_8, _WHITE_16 = 255, 65535


class PromptIRRestore:
    """Node with an image input and output, both float tensors of shape (B, H, W, 3) in 0 to 1."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "restore"
    CATEGORY = "image/restoration"
    DESCRIPTION = "Removes noise, rain and haze with a PromptIR server."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Describe the inputs; the API key is read from PROMPTIR_API_KEY, so that no workflow file contains it."""
        return {
            "required": {
                "image": ("IMAGE",),
                "server": ("STRING", {"default": "http://127.0.0.1:8000"}),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05}),
            }
        }

    def restore(self, image: "torch.Tensor", server: str, strength: float) -> "tuple[torch.Tensor]":
        """Restore (B, H, W, 3) images, sent with 16 bits; raises a PromptIRError."""
        import numpy as np
        import torch

        scaled = (image.detach().cpu().float().numpy().clip(0, 1) * _WHITE_16).round().astype(np.uint16)
        with Client(server, os.environ.get("PROMPTIR_API_KEY")) as client, ThreadPoolExecutor(AT_ONCE) as threads:

            def restored(pixels: "npt.NDArray[np.uint16]") -> "npt.NDArray[np.float32]":
                answer = client.restore(pixels, format="png", strength=strength).numpy()
                white = _WHITE_16 if answer.dtype == np.uint16 else _WHITE_8
                return answer.astype(np.float32) / np.float32(white)

            return (torch.from_numpy(np.stack(list(threads.map(restored, scaled)))),)


NODE_CLASS_MAPPINGS = {"PromptIRRestore": PromptIRRestore}
NODE_DISPLAY_NAME_MAPPINGS = {"PromptIRRestore": "Restore (PromptIR)"}
