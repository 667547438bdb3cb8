#!/usr/bin/env bash
# Breaks the product on purpose: applies each patch here to a copy of the tree, and requires the test that it names to fail.
#   tests/mutations/run.sh [PART-OF-A-NAME...]
# A patch begins with what it breaks, and a line `test: ` with arguments for `cargo test`. MUTATIONS_TARGET is where it builds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export CARGO_TARGET_DIR=${MUTATIONS_TARGET:-$root/target/mutations} CARGO_TERM_COLOR=never RUST_BACKTRACE=0
tree=$(mktemp -d)
log=$(mktemp)
clean() {
    git -C "$root" worktree remove --force "$tree/copy" 2>/dev/null || true
    rm -rf "$tree" "$log"
}
trap clean EXIT
git -C "$root" worktree add --quiet --detach "$tree/copy" HEAD
cd "$tree/copy"
# What is not committed yet is broken, too.
git -C "$root" diff --binary HEAD | git apply --allow-empty

chosen=()
for patch in "$here"/*.patch; do
    name=$(basename "$patch" .patch)
    for part in "${@:-}"; do
        if [[ $name == *"$part"* ]]; then
            chosen+=("$name")
            break
        fi
    done
done
[ "${#chosen[@]}" -gt 0 ] || { echo "no patch here has \`$*\` in its name" >&2; exit 2; }

survived=0
for name in "${chosen[@]}"; do
    patch=$here/$name.patch
    read -ra test <<<"$(sed -n 's/^test: //p' "$patch" | head -1)"
    [ "${#test[@]}" -gt 0 ] || { echo "$name: names no test; add a line \`test: \` to the patch" >&2; exit 2; }
    git apply "$patch" || { echo "$name: does not apply any more; make it anew" >&2; exit 2; }
    # One that does not build shows nothing.
    if ! cargo test --quiet "${test[@]}" --no-run >"$log" 2>&1; then
        cat "$log" >&2
        echo "$name: does not build" >&2
        exit 2
    fi
    if cargo test --quiet "${test[@]}" >"$log" 2>&1; then
        echo "SURVIVED  $name: ${test[*]}"
        survived=$((survived + 1))
    elif grep -q '^test result: FAILED' "$log"; then
        echo "found     $name: $(grep -m1 -A1 'panicked at' "$log" | tail -1 | cut -c1-120)"
    else
        cat "$log" >&2
        echo "$name: its test did not run" >&2
        exit 2
    fi
    git apply --reverse "$patch"
done
echo "${#chosen[@]} mutations, $survived survived"
[ "$survived" = 0 ]
