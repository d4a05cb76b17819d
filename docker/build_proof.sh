#!/usr/bin/env bash
# Build the CPU image without a container engine, run it, restore a photo with it and stop it: 5 to 10 minutes.
# Needs root on Debian or Ubuntu with buildah and debootstrap. The base image is a substitute built from the
# distribution's own packages under the real image's name, so that nothing is pulled; BASE_IMAGE=... pulls one instead.
set -euo pipefail
cd "$(dirname "$0")/.."

work=${WORK:-$(mktemp -d)}
image=localhost/promptir:proof
stand_in=docker.io/library/python:3.11-slim-bookworm
site=opt/promptir/lib/python3.11/site-packages
user=10001:10001
limit_mb=450

say() { printf '\n== %s\n' "$*"; }
buildah_() { buildah --root "$work/store" --runroot "$work/run" --storage-driver overlay "$@"; }
megabytes() { du --summarize --apparent-size --block-size=1000000 "$1" | cut -f1; }
in_container() { buildah_ run --isolation chroot --user "$user" "$@"; }

for tool in buildah debootstrap curl; do
    command -v "$tool" >/dev/null || { echo "needs $tool: apt-get install buildah fuse-overlayfs debootstrap curl" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "needs root: the build mounts file systems" >&2; exit 2; }

if [ -z "${BASE_IMAGE:-}" ] && ! buildah_ inspect --type image "$stand_in" >/dev/null 2>&1; then
    say "build a substitute for the base image"
    root=$work/rootfs
    if [ ! -e "$root/usr/bin/python3" ]; then
        mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -1)
        packages=ca-certificates,python3,python3-pip,python3-venv
        debootstrap --variant=minbase --include="$packages" bookworm "$root" ${mirror:+"$mirror"} >"$work/debootstrap.log"
    fi
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    container=$(buildah_ from scratch)
    mounted=$(buildah_ mount "$container")
    cp --archive "$root/." "$mounted/"
    ln --symbolic --force python3 "$mounted/usr/bin/python"
    buildah_ config --env PIP_CERT=/etc/ssl/certs/ca-certificates.crt "$container"
    buildah_ umount "$container" >/dev/null
    buildah_ commit --quiet --rm "$container" "$stand_in" >/dev/null
fi

say "build"
arguments=(--isolation chroot --format docker --file docker/Dockerfile --target serve-cpu --tag "$image")
if [ -n "${BASE_IMAGE:-}" ]; then
    arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
else
    arguments+=(--pull=never)
fi
time buildah_ bud "${arguments[@]}" .

say "image metadata"
buildah_ inspect --type image --format \
    'user {{.Docker.Config.User}}, entry point {{.Docker.Config.Entrypoint}} {{.Docker.Config.Cmd}}, health check {{.Docker.Config.Healthcheck.Test}}' \
    "$image" | tee "$work/config"
grep --quiet "user $user" "$work/config"
grep --quiet "healthcheck.py" "$work/config"

say "size over the base"
container=$(buildah_ from --pull=never "$image")
mounted=$(buildah_ mount "$container")
size_mb=$(megabytes "$mounted/opt")
du --summarize --apparent-size --block-size=1000000 "$mounted/$site"/* | sort --numeric-sort --reverse | sed --quiet 1,8p
echo "content over the base: $size_mb MB, limit $limit_mb MB"
[ "$size_mb" -lt "$limit_mb" ]

say "the user can write only to /tmp, /plans and the cache"
# shellcheck disable=SC2016
in_container "$container" -- sh -c '
    id
    for folder in /tmp /plans /var/cache/promptir; do touch "$folder/probe" && rm "$folder/probe"; done
    for folder in / /opt /opt/promptir/bin /etc /usr/bin; do ! touch "$folder/probe" 2>/dev/null; done'

say "run"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
in_container --env "PROMPTIR_PORT=$port" --env PROMPTIR_HOST=127.0.0.1 "$container" -- promptir serve 2>"$work/server.log" &
server=$!
# The server is the last in the chain of processes that buildah starts.
serving() {
    local process=$server child
    while child=$(pgrep --parent "$process"); do process=$child; done
    echo "$process"
}
trap 'kill "$server" 2>/dev/null || true' EXIT
healthy=no
for _ in $(seq 120); do
    if in_container --env "PROMPTIR_PORT=$port" "$container" -- python /opt/docker/healthcheck.py >/dev/null 2>&1; then
        healthy=yes
        break
    fi
    sleep 1
done
echo "health check passes: $healthy"
[ "$healthy" = yes ]
curl --silent --show-error --fail "http://127.0.0.1:$port/"
echo
mkdir -p "$work/seen" # a separate folder, because the image's user cannot read the temporary one
curl --silent --show-error --fail --form file=@tests/photos/pier.jpg "http://127.0.0.1:$port/restore?format=jpeg" \
    --output "$work/seen/restored.jpg" --write-out 'restore: %{http_code}, %{size_download} bytes, %{time_total} s\n'
in_container --volume "$work/seen:/mnt:ro" "$container" -- python -c '
import sys
from PIL import Image
with Image.open("/mnt/restored.jpg") as restored:
    print("restored", restored.format, restored.size)'

say "stop"
kill -TERM "$(serving)"
wait "$server" && code=0 || code=$?
trap - EXIT
tail -n 2 "$work/server.log"
echo "exit code $code"
[ "$code" = 0 ]
say "proof complete"
