"""The Photo: one decoded image on its way through the network, tile by tile."""

from collections.abc import Sequence

from server.backends.base import Aux, Pixels
from server.formats import codec
from server.formats.codec import Image
from server.formats.output import OutputFormat
from server.imaging import tiling
from server.imaging.assembly import Assembly
from server.imaging.report import Findings, Report, measure_change
from server.imaging.strength import blend
from server.imaging.tiling import Grid, Tile
from server.restore.guide import Guide
from server.restore.options import RestoreOptions


class Photo:
    """Cuts an image by its grid, takes the restored tiles in any order and encodes what they make.

    Everything here is work for a processor, so for a thread; `cut` and `add` may be called from several at once.
    """

    def __init__(self, image: Image, grid: Grid, options: RestoreOptions) -> None:
        self.guide = Guide(grid) if grid.guided else None
        """Sets the tone of the tiles: it runs before the first is added."""
        self._image = image
        self._options = options
        self._assembly = Assembly(grid, image.dtype, image.is_grey)
        self._aux: list[Aux | None] = []

    def crop(self, rows: slice, columns: slice) -> Pixels:
        """Some rows and columns as the network sees them: (3, height, width)."""
        return self._image.crop(rows, columns)

    def cut(self, tile: Tile) -> Pixels:
        """The pixels of a tile as the network takes them: (3, padded_height, padded_width)."""
        return tiling.pad(self.crop(tile.rows, tile.columns), tile)

    def add(self, tile: Tile, pixels: Pixels, restored: Pixels, aux: Aux | None = None) -> None:
        """Add a tile that was cut as `pixels` and restored to `restored`, and the model's auxiliary output for it."""
        self._aux.append(aux)
        if self.guide is not None:
            restored = self.guide.correct(tile, pixels, restored)
        self._assembly.add(tile, blend(pixels, restored, self._options.strength))

    def encode(self, output: OutputFormat) -> bytes:
        """The file, once all tiles have come."""
        options = self._options
        return codec.encode(self._image, self._assembly.planes, output, options.quality, options.writing)

    def findings(self, labels: Sequence[str]) -> Findings:
        """Tell what the network found, the whole frame if it had a run; `labels` are the model's degradations."""
        return Findings.of(self._aux if self.guide is None else [self.guide.aux], labels)

    def report(self, findings: Findings) -> Report | None:
        """Measure what was changed, if a report was asked for."""
        if not self._options.report:
            return None
        return Report(measure_change(self._image.planes, self._assembly.planes), findings.prompt_weights)
