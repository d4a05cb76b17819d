"""Settings that limit uploads, images and batches."""

from pydantic import Field

from server.settings.group import Group

# TensorRT's limit of 2**31 - 1 elements per tensor, divided by the 512 channels of the widest one.
MAX_RUN_PIXELS = 4_194_303


class LimitSettings(Group):
    """Limits of uploads, checked before anything is decoded, and of batches."""

    max_upload_bytes: int = Field(
        default=64 * 2**20,
        gt=0,
        description="Largest upload; bounds the memory per connection. A JPEG of the largest image has about half.",
    )
    max_uploads_bytes: int = Field(
        default=512 * 2**20,
        gt=0,
        description="Most bytes of all uploads being read or decoded, beyond it 429; at least `max_upload_bytes`.",
    )
    upload_stall_s: float = Field(
        default=30.0,
        gt=0,
        description="Longest time for each 64 KiB of an upload, beyond it 408; long enough for a phone in a tunnel.",
    )
    max_image_pixels: int = Field(
        default=50_000_000,
        gt=0,
        description="Largest width times height; an 8-bit photo takes 6 bytes per pixel, input and output together.",
    )
    max_image_side: int = Field(
        default=16_384, gt=0, description="Longest side; a very thin image grows up to eightfold when it is padded."
    )
    max_metadata_bytes: int = Field(
        default=4 * 2**20, gt=0, description="Largest decompressed size of colour profile, EXIF and XMP, for each."
    )
    max_run_pixels: int | None = Field(
        default=None,
        gt=0,
        le=MAX_RUN_PIXELS,
        description="Most pixels per batch of several images; unset, 262144 on a CPU, where a megapixel takes 3 GB and "
        "batches are no faster, and 2097152 on a GPU. A single image may have more.",
    )
    max_whole_pixels: int | None = Field(
        default=None,
        gt=0,
        le=MAX_RUN_PIXELS,
        description="Larger images are restored in tiles, whose result differs slightly from one run "
        "(docs/large-photos.md); unset, 1048576 on a CPU, about 3 GB, and 2097152 on a GPU.",
    )
    tone_guide: bool = Field(
        default=True,
        description="Corrects the tone of tiles that disagree by an extra run on the whole photo, scaled down; off, "
        "each tile keeps its own tone (docs/large-photos.md).",
    )
