"""`POST /restore`: route, options, answers and OpenAPI part."""
