#!/usr/bin/env bash
# Asks a plane everything that its OpenAPI document allows, and much that it does not, by schemathesis: a daemon on the demo's
# fleet, over TLS. Fails where an answer is not as the document says. Needs python3 with venv, and PyPI.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing() {
    echo "skipped: $1"
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

python3 -c 'import venv, ensurepip' 2>/dev/null || missing "python3 with venv is not installed"
cargo build --quiet
embot="${CARGO_TARGET_DIR:-target}/debug/embot"
folder=$(mktemp -d)
daemon=
finish() {
    [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; }
    rm -rf "$folder"
}
trap finish EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis==4.32.5' || missing "schemathesis cannot be installed"

"$embot" init "$folder/plane" --demo >/dev/null
"$embot" pki --folder "$folder/pki" init >/dev/null
"$embot" pki --folder "$folder/pki" issue demo --name localhost >/dev/null
cat >>"$folder/plane/plane.yaml" <<END
api: { listen: "127.0.0.1:0", certificate: ../pki/planes/demo/plane.crt, key: ../pki/planes/demo/plane.key }
END
"$embot" run --config "$folder/plane/plane.yaml" 2>"$folder/log" &
daemon=$!
for _ in $(seq 600); do
    port=$(sed -n 's/.*the API is on the network address=127.0.0.1:\([0-9]*\).*/\1/p' "$folder/log")
    [ -z "$port" ] || break
    kill -0 "$daemon" 2>/dev/null || { cat "$folder/log"; exit 1; }
    sleep 0.1
done
token=$("$embot" --config "$folder/plane/plane.yaml" token create schemathesis --role admin --output json | python3 -c 'import json, sys; print(json.load(sys.stdin)["secret"])')

# Known to be the same for everybody who runs it, unless another seed is asked for.
found=0
config=$PWD/tests/api/schemathesis.toml
# What it remembers of a run belongs to this run.
(cd "$folder" && venv/bin/schemathesis --config-file "$config" run "https://localhost:$port/v1/openapi.json" \
    --header "Authorization: Bearer $token" --tls-verify "$folder/pki/ca.crt" --checks all --continue-on-failure \
    --max-examples "${EXAMPLES:-25}" --seed "${SEED:-1}" --workers 2 --no-color) || found=$?
"$embot" --config "$folder/plane/plane.yaml" status >/dev/null || { tail -50 "$folder/log"; exit 1; }
[ "$found" = 0 ] || { tail -20 "$folder/log"; exit "$found"; }
