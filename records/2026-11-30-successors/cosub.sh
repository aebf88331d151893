#!/usr/bin/env bash
# Time of a training step with model.drop_path_kind=skip over that with mask, at six rates of stochastic depth, in turns.
# cosub.sh FOLDER: writes FOLDER/rate-0.1.json and so on. Run from the project's root.
set -euo pipefail
for rate in 0.1 0.2 0.3 0.4 0.5 0.6; do
    .venv/bin/deit-fast bench step --config-file deit_configs/cosub/cosub_small.yaml --model.name=deit_tiny_patch16_LS \
        --model.drop_path="$rate" --model.drop_path_kind=mask --bench.choices=drop_path_kind --data.batch_size=8 --data.resolution=112 \
        --train.device=cpu --bench.steps=1 --bench.rounds=7 --out="$1/rate-$rate.json" | tee "$1/rate-$rate.txt"
done
