"""Health check of the container; exits with 0 if the server is ready."""

import http.client
import os
import sys

DEFAULT_PORT = "8000"
TIMEOUT_S = 4.0
OK = 200


def main() -> int:
    """Query the server in this container; return 0 if it is ready, otherwise print a sentence and return 1."""
    port = int(os.environ.get("PROMPTIR_PORT") or DEFAULT_PORT)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        print(response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        print(f"no response on port {port}: {error}")
        return 1
    finally:
        connection.close()
    return 0 if response.status == OK else 1


if __name__ == "__main__":
    sys.exit(main())
