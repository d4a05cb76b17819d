"""Limit settings: what an upload may be, and a run."""

from pydantic import Field

from server.settings.group import Group

# TensorRT's limit of 2**31 - 1 elements over the 512 channels of the widest tensor.
MAX_RUN_PIXELS = 4_194_303


class LimitSettings(Group):
    """What an upload may be, checked before anything is decoded."""

    max_upload_bytes: int = Field(
        default=64 * 2**20,
        gt=0,
        description="Bounds memory per connection; a JPEG of the largest image has half.",
    )
    max_uploads_bytes: int = Field(
        default=512 * 2**20,
        gt=0,
        description="Of all uploads being read or decoded; beyond it 429. Never less than one upload may have.",
    )
    upload_stall_s: float = Field(
        default=30.0,
        gt=0,
        description="In which each 64 KiB of an upload must come, beyond it 408: a phone in a tunnel may pause so.",
    )
    max_image_pixels: int = Field(
        default=50_000_000,
        gt=0,
        description="Width times height; a photo of 8 bits is held in 6 bytes a pixel, before and after.",
    )
    max_image_side: int = Field(
        default=16_384, gt=0, description="A very thin image grows up to eightfold when it is padded."
    )
    max_metadata_bytes: int = Field(
        default=4 * 2**20, gt=0, description="Of the colour profile, EXIF and XMP of an upload, each, and inflated."
    )
    max_run_pixels: int | None = Field(
        default=None,
        gt=0,
        le=MAX_RUN_PIXELS,
        description="Of all images of a run of several; unset 262144 on a CPU, where a megapixel takes 3 GB and "
        "batches are no faster, and 2097152 on a GPU. One image alone may have more.",
    )
    max_whole_pixels: int | None = Field(
        default=None,
        gt=0,
        le=MAX_RUN_PIXELS,
        description="An image of more is restored in tiles, which differ a little from one run (docs/tiling.md); unset "
        "1048576 on a CPU, about 3 GB, and 2097152 on a GPU.",
    )
    tone_guide: bool = Field(
        default=True,
        description="Where the tiles of a photo disagree on tone, one more run of the whole frame made small decides; "
        "off, each tile decides its own tone (docs/tiling.md).",
    )
