"""Keys of four clients, the lines of the keys file that know them, and the origin of a page that may call."""

from server.access.keys_file import Terms, new_key

ADA, ADA_LINE = new_key("ada", Terms())
BOB, BOB_LINE = new_key("bob", Terms())
EVE, EVE_LINE = new_key("eve", Terms(suspended=True))
SPARE, SPARE_LINE = new_key("sparing", Terms(requests_per_minute=60, megapixels_per_minute=0.06))
ORIGIN = "https://photos.example"
LINES = "\n".join([ADA_LINE, BOB_LINE, EVE_LINE, SPARE_LINE])
