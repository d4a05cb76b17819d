"""The HTTP/1.1 connection below ASGI: bounds, writes and early refusals."""
