#!/bin/bash
# Test a new checkpoint against the baseline "good" on a cluster: BASE=... TUNED=... sbatch slurm.sh
#SBATCH --job-name=tuneshift
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
# Two minutes before its time is over the script passes a SIGTERM on: the run keeps every finished chunk, and the same
# command, or a requeued job, goes on there.
#SBATCH --signal=B:TERM@120
set -euo pipefail

# tuneshift is on no package index: it is installed from its repository, at a commit of your choice.
: "${TUNESHIFT:=git+https://github.com/OWNER/tuneshift@COMMIT}"
: "${BASE:=embedded:micro/base}" "${TUNED:=embedded:micro/instruct}"
# A disk that all nodes see: evidence, checkpoints of the hub, packages and the environment are there for the next job.
shared=${SCRATCH:-$HOME}/tuneshift
export TUNESHIFT_STORE=$shared/store HF_HOME=$shared/huggingface PIP_CACHE_DIR=$shared/pip
# Gated or private checkpoints: export HF_TOKEN before sbatch, or keep it in $HF_HOME/token.

mkdir -p "$shared"
if [ ! -e "$shared/env/installed" ]; then
  python3 -m venv "$shared/env"
  "$shared/env/bin/python" -m pip install "tuneshift[minilm] @ $TUNESHIFT"
  touch "$shared/env/installed"
fi

# Every claim on prompts must see a loss of 12 margins: the least that the shipped 348 prompts see. Name the finding
# that you care for as well: --shift-min-power=hewitt2024.tuned_follows=0.1
code=0
"$shared/env/bin/pytest" --pyargs tuneshift.suites --base="$BASE" --tuned="$TUNED" --shift-compare=good --shift-min-power=12 &
run=$!
trap 'kill -TERM "$run"' TERM
wait "$run" || code=$?
while kill -0 "$run" 2>/dev/null; do # the signal ended the first wait, not the run
  code=0
  wait "$run" || code=$?
done
if [ -f tuneshift-results/summary.md ]; then
  cat tuneshift-results/summary.md
  # Set PULL_REQUEST to its number to have it commented, where gh is logged in.
  if [ -n "${PULL_REQUEST:-}" ]; then
    gh pr comment "$PULL_REQUEST" --body-file tuneshift-results/summary.md
  fi
fi
exit "$code"
