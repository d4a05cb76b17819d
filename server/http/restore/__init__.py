"""POST /restore: its route, options, answers and OpenAPI part."""
