#!/usr/bin/env bash
# Regenerate docker/locks: every package of each image, pinned by version and hash, without an index address.
# UV=... selects the uv to use; arguments such as --upgrade are passed to it.
set -euo pipefail
cd "$(dirname "$0")/.."
locks=docker/locks
lock() { # output file, then arguments of uv
    local output=$1
    shift
    "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --output-file "$locks/$output" "$@"
}
# The project lists its build tools in [build-system].
python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' |
    lock build.txt "$@" -
lock cpu.txt "$@" --extra cpu --extra heif --extra tracing --extra grpc pyproject.toml
lock export.txt "$@" --extra export --extra cpu pyproject.toml
# It serves with the PyTorch that its plans are measured against.
lock gpu.txt "$@" --constraint <(grep -o '^torch==[0-9.]*' "$locks/export.txt") \
    --extra gpu --extra pytorch --extra heif --extra tracing --extra grpc pyproject.toml
# One flavour is put on top of either image, so what they share must be the same in all three.
for flavour in tensorrt tensorrt-rtx; do
    echo "$flavour" | lock "$flavour.txt" "$@" --constraint "$locks/gpu.txt" --constraint "$locks/export.txt" -
done
