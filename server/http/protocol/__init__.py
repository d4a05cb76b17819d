"""The HTTP/1.1 connection below ASGI: bounds, write coalescing and early refusals."""
