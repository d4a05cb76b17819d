"""One backend for several processes: the device process hosts it, and each HTTP process uses it as its own."""
