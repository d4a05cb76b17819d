"""Every scenario in one file, for locust's web interface: choose one under "Shape class" (`make load-ui`).

A scenario brings its own users; choose user classes as well to leave some of them out. With the shape class "Default",
locust's own fields say how many of the chosen users come.
"""

from bad_inputs import BadInputs, Offender
from big_uploads import BigUploads, Neighbour, Photographer
from cancelling import Cancelling, Leaver, Stayer
from mixed_sizes import Anyone, MixedSizes
from ramp import Ramp, WithoutPause
from soak import SeveralSizes, Soak
from spike import Spike, TwicePerSecond
from steady import OncePerSecond, Steady

__all__ = [
    "Anyone",
    "BadInputs",
    "BigUploads",
    "Cancelling",
    "Leaver",
    "MixedSizes",
    "Neighbour",
    "Offender",
    "OncePerSecond",
    "Photographer",
    "Ramp",
    "SeveralSizes",
    "Soak",
    "Spike",
    "Stayer",
    "Steady",
    "TwicePerSecond",
    "WithoutPause",
]
