"""/v1/jobs: its routes, schemas, events and OpenAPI part."""
