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
    """Cuts an image into tiles, takes the restored tiles in any order and encodes the result.

    All methods are CPU work; `cut` and `add` may be called from several threads at once.
    """

    def __init__(self, image: Image, grid: Grid, options: RestoreOptions) -> None:
        self.guide = Guide(grid) if grid.guided else None
        """Gives the tiles one tone: it runs before the first is added."""
        self._image = image
        self._options = options
        self._assembly = Assembly(grid, image.dtype, image.is_grey)
        self._aux: list[Aux | None] = []

    def crop(self, rows: slice, columns: slice) -> Pixels:
        """Return some rows and columns as network input: (3, height, width)."""
        return self._image.crop(rows, columns)

    def cut(self, tile: Tile) -> Pixels:
        """Return a padded tile as network input: (3, padded_height, padded_width)."""
        return tiling.pad(self.crop(tile.rows, tile.columns), tile)

    def add(self, tile: Tile, pixels: Pixels, restored: Pixels, aux: Aux | None = None) -> None:
        """Add a tile that was cut as `pixels` and restored as `restored`, with the aux output of its run."""
        self._aux.append(aux)
        if self.guide is not None:
            self.guide.note(tile, pixels, restored)
        is_last = self._assembly.add(tile, blend(pixels, restored, self._options.strength))
        if is_last and self.guide is not None:
            self.guide.settle(self._assembly.pixels, self._options.strength)

    def encode(self, output: OutputFormat) -> bytes:
        """Encode the file, once all tiles are added."""
        options = self._options
        return codec.encode(self._image, self._assembly.planes, output, options.quality, options.writing)

    def findings(self, labels: Sequence[str]) -> Findings:
        """Summarise what the network found in the tiles, and in the whole frame if it had a run, for its `labels`."""
        tiles = Findings.of(self._aux, labels)
        return tiles if self.guide is None else Findings.of([self.guide.aux], labels).with_detail(tiles)

    def report(self, findings: Findings) -> Report | None:
        """Measure the change, if a report was requested."""
        if not self._options.report:
            return None
        return Report(measure_change(self._image.planes, self._assembly.planes), findings.prompt_weights)
