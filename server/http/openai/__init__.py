"""/v1/images/edits: the part of OpenAI's image API that restores photos."""
