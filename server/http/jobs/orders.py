"""Orders for uploads: what the jobs store keeps of each photo and of the request."""

from collections.abc import Sequence
from dataclasses import dataclass

from server import logs
from server.access.caller import Caller
from server.errors import EmptyUpload, InvalidImage, InvalidRequest, PromptIRServeError
from server.errors.problem import problem_of
from server.formats.header import Header, probe
from server.http.body.upload import Upload
from server.jobs.record import Order, Submission, options_json
from server.restore.options import RestoreOptions
from server.restore.pipeline import Restorer
from server.settings import LimitSettings

ENCODING_ROOM = 1.02
"""The most that a PNG is larger than its samples, for an image of noise."""
CONTAINER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Orders:
    """Writes the orders of one request; its photos have the same options, deadline and caller."""

    restorer: Restorer
    limits: LimitSettings
    options: RestoreOptions
    deadline_at: float | None
    caller: Caller | None

    def order(self, upload: Upload) -> tuple[Order, int]:
        """Return the order for a photo, and its pixels to charge; raises InvalidImage and InvalidRequest. Blocks."""
        header = probe(upload.data, self.limits)
        self.restorer.check(header.height, header.width, self.options)
        return self._order(upload, header.width * header.height, most_bytes(header)), header.decoded_pixels

    def submissions(self, uploads: Sequence[Upload]) -> tuple[list[Submission], int]:
        """Return the photos of a batch, and their pixels to charge; bad photos come with their problem. Blocks.

        Raises the first problem if no photo is good.
        """
        submissions, pixels = list[Submission](), 0
        errors = list[PromptIRServeError]()
        for upload in uploads:
            try:
                order, charged = self.order(upload)
            except (InvalidImage, InvalidRequest) as error:
                errors.append(error)
                problem = problem_of(error, f"urn:promptir:request:{logs.request_id.get()}")
                submissions.append(Submission(b"", self._order(upload, 0, 0), problem))
                continue
            submissions.append(Submission(upload.data, order))
            pixels += charged
        if len(errors) == len(submissions):
            raise errors[0] if errors else EmptyUpload("The request has no photo.")
        return submissions, pixels

    def _order(self, upload: Upload, pixels: int, result_bytes: int) -> Order:
        owner = None if self.caller is None else self.caller.name
        filename = upload.filename
        return Order(options_json(self.options), filename, pixels, result_bytes, self.deadline_at, owner)


def most_bytes(header: Header) -> int:
    """Estimate the most bytes a result may have: its samples uncompressed, and the metadata of the upload."""
    samples = (1 if header.is_grey else 3) + header.has_alpha
    pixels = header.width * header.height * samples * (2 if header.depth > 8 else 1)
    notes = header.metadata
    carried = sum(len(part or b"") for part in (notes.icc_profile, notes.exif, notes.xmp))
    return int(pixels * ENCODING_ROOM) + carried + CONTAINER_BYTES
