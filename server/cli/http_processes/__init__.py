"""Several HTTP processes on one port, before this one, which runs the devices (`--http-processes`)."""

from server.cli.http_processes.parent import serve_processes as serve_processes
