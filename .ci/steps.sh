# Sourced by .ci/run and .ci/nightly: the checkout, a virtual environment of its own, a temporary folder, named steps.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export VENV=.ci/venv TUNESHIFT_REQUIRE_SHARED=1 OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

rm -rf "$VENV"
# The report is opened in a real browser; without one that test is skipped, so get one where this machine may.
if ! command -v chromium >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  (apt-get update -qq && apt-get install -y -qq chromium) >/dev/null 2>&1 || echo "no chromium: its tests will be skipped"
fi
step "virtual environment"; make "$VENV/installed"
