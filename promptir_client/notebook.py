"""Display of results in Jupyter notebooks."""

import base64
import io

# Formats that all notebooks can show, and the largest picture to embed in a notebook file.
_SHOWN = ("image/png", "image/jpeg")
_MAX_BYTES = 8 * 2**20
_PREVIEW_SIDE = 1600


def picture_of(data: bytes, media_type: str) -> dict[str, str]:
    """Encode a picture in base64, keyed by media type; other formats and large files become a preview by Pillow."""
    if media_type in _SHOWN and len(data) <= _MAX_BYTES:
        return {media_type: base64.b64encode(data).decode()}
    try:
        preview = _preview(data)
    except Exception:  # Pillow is missing or cannot read it: fall back to the text
        return {}
    return {"image/png": base64.b64encode(preview).decode()}


def _preview(data: bytes) -> bytes:
    import PIL.Image

    with PIL.Image.open(io.BytesIO(data)) as image:
        image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
        shown = image if image.mode in ("L", "LA", "P", "RGB", "RGBA", "I;16") else image.convert("RGB")
        buffer = io.BytesIO()
        shown.save(buffer, "PNG", icc_profile=image.info.get("icc_profile"))
    return buffer.getvalue()
