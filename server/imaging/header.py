"""Header: what an image file says about itself before any pixel is decoded."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import BmpImagePlugin, ExifTags, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from server.errors import EmptyUpload, ImageTooLarge, UndecodableImage, UnsupportedImage
from server.imaging.dimensions import dimensions
from server.imaging.png_writer import SIGNATURE as PNG_SIGNATURE
from server.settings import LimitSettings

# The classes are called directly, not through PIL.Image.open: no other parser is ever tried on an upload, and
# Pillow's process-wide pixel limit stays out of the way of ours. A phone's multi-picture JPEG reads as its photo.
_PARSERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
SUPPORTED_FORMATS = tuple(_PARSERS)
_SIGNATURES: tuple[tuple[str, bytes | tuple[bytes, ...]], ...] = (
    ("PNG", PNG_SIGNATURE),
    ("JPEG", b"\xff\xd8\xff"),
    ("WebP", b"RIFF"),
    ("TIFF", (b"II*\0", b"MM\0*")),
    ("BMP", b"BM"),
)

_GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_TIFF_MODES = frozenset({"1", "L", "P", "RGB", "RGBA", "I;16", "I;16B"})
_LONGEST_SIGNATURE = 12  # WebP's
_PROFILE_SPACE = slice(16, 20)  # ICC.1:2022, 7.2: the colour space of the data


@dataclass(frozen=True)
class Header:
    """A file's format, its size as shown (orientation applied) and what must survive the round trip."""

    format: str
    width: int
    height: int
    is_grey: bool
    has_alpha: bool
    orientation: int  # EXIF 1..8, still to be applied to the decoded pixels
    icc_profile: bytes | None


def peek(start: bytes, limits: LimitSettings) -> tuple[int, int] | None:
    """(height, width) before orientation, as soon as the first bytes of an upload tell; None until then.

    Raises what `probe` will raise anyhow: UnsupportedImage, ImageTooLarge, UndecodableImage. Costs microseconds.
    """
    if len(start) < _LONGEST_SIGNATURE:
        return None
    size = dimensions(_format_of(start), start)
    if size is not None:
        _hold_against(*size, limits)
    return size


def probe(data: bytes, limits: LimitSettings) -> Header:
    """Read the header of an encoded image and hold it against the limits.

    Raises EmptyUpload, UnsupportedImage (not an image, or a kind that is not read), UndecodableImage (the header is
    broken) or ImageTooLarge (bytes, pixels or side).
    """
    if not data:
        raise EmptyUpload("The upload is empty: send the bytes of one image.")
    if len(data) > limits.max_upload_bytes:
        raise ImageTooLarge(
            f"The upload has {len(data)} bytes; at most {limits.max_upload_bytes} are taken.",
            max_upload_bytes=limits.max_upload_bytes,
        )
    name = _format_of(data)
    if name == "PNG" and not _ends_well(data):
        raise UndecodableImage("The PNG is cut off or damaged: its chunks do not reach the end marker.")
    try:
        image = _PARSERS[name](io.BytesIO(data))
    except Exception as error:  # parsers meet hostile bytes, and whatever they raise means the same
        raise UndecodableImage(f"The upload begins like a {name} file but its header cannot be read.") from error
    header = _describe(name, image, data)
    _hold_against(header.height, header.width, limits)
    _refuse_unreadable_kinds(name, image)
    return header


def _format_of(data: bytes) -> str:
    for name, signature in _SIGNATURES:
        if data.startswith(signature) and (name != "WebP" or data[8:12] == b"WEBP"):
            return name
    kinds = ", ".join(SUPPORTED_FORMATS)
    raise UnsupportedImage(
        f"The upload is not an image of a kind that is read here: {kinds}.", allowed_formats=list(SUPPORTED_FORMATS)
    )


def _describe(name: str, image: Image.Image, data: bytes) -> Header:
    width, height = image.size
    orientation = _orientation(name, image, data)
    if orientation >= 5:  # the transposed half of the eight
        width, height = height, width
    is_grey = image.mode in _GREY_MODES
    return Header(
        format=name,
        width=width,
        height=height,
        is_grey=is_grey,
        has_alpha=image.mode in _ALPHA_MODES or (name == "PNG" and "transparency" in image.info),
        orientation=orientation,
        icc_profile=_usable_profile(image.info.get("icc_profile"), is_grey),
    )


def _hold_against(height: int, width: int, limits: LimitSettings) -> None:
    if width < 1 or height < 1:
        raise UndecodableImage(f"The image says it is {width} x {height} pixels.")
    if max(width, height) > limits.max_image_side:
        raise ImageTooLarge(
            f"The image is {width} x {height}; a side may have at most {limits.max_image_side} pixels.",
            max_image_side=limits.max_image_side,
        )
    if width * height > limits.max_image_pixels:
        raise ImageTooLarge(
            f"The image is {width} x {height}, {width * height} pixels; at most {limits.max_image_pixels} are taken.",
            max_image_pixels=limits.max_image_pixels,
        )


def _refuse_unreadable_kinds(name: str, image: Image.Image) -> None:
    if name == "TIFF":
        if image.mode not in _TIFF_MODES:
            raise UnsupportedImage(f"TIFF with pixels of kind {image.mode} is not read: save it as grey, RGB or RGBA.")
        several = _has_second_page(image)
    else:
        several = getattr(image, "n_frames", 1) > 1
    if several:
        raise UnsupportedImage(f"The {name} holds more than one frame: send one still image.")


def _has_second_page(image: Image.Image) -> bool:
    # Not n_frames: that walks every directory, and a hostile file can hold millions.
    try:
        image.seek(1)
    except EOFError:
        return False
    except Exception as error:
        raise UndecodableImage("The TIFF points to a second page that cannot be read.") from error
    return True


def _orientation(name: str, image: Image.Image, data: bytes) -> int:
    if name == "TIFF":  # applied by the decoder, and already in the size
        return 1
    exif_bytes = image.info.get("exif") or (_late_png_exif(data) if name == "PNG" else None)
    if not exif_bytes:
        return 1
    exif = Image.Exif()
    try:
        exif.load(exif_bytes)
        value: Any = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF must not cost its owner the image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _late_png_exif(data: bytes) -> bytes | None:
    # The chunk may follow the pixels, where the header parser does not look.
    return next((bytes(body) for kind, body in _png_chunks(data) if kind == b"eXIf"), None)


def _ends_well(data: bytes) -> bool:
    return any(kind == b"IEND" for kind, _ in _png_chunks(data))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        kind = bytes(view[at + 4 : at + 8])
        if at + 12 + length > len(data):
            return
        yield kind, view[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return
        at += 12 + length


def _usable_profile(profile: bytes | None, is_grey: bool) -> bytes | None:
    # A CMYK profile describes nothing once the pixels are RGB.
    expected = b"GRAY" if is_grey else b"RGB "
    return profile if profile and profile[_PROFILE_SPACE] == expected else None
