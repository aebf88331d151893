#!/usr/bin/env bash
# Four configurations, each planned and then trained, three times in turns; then a table of predicted and actual seconds:
#     predict.sh FOLDER DIGITS PHOTOGRAPHS
# DIGITS: folder with train.beton and val.beton of `deit-fast demo` (runs/demo/digits). PHOTOGRAPHS: folder with train.beton and
# val.beton of photographs. Run it from the repository's root with the virtual environment active, on a machine that does
# nothing else. About 25 minutes on 2 cores.
set -euo pipefail
folder=$1 digits=$2 photographs=$3
here=$(dirname "$0")
mkdir -p "$folder"

demo="--config-file=deit_configs/demo.yaml"
compute="$demo --data.train=$digits/train.beton --data.val=$digits/val.beton"
# the small set trains, the large one is evaluated after each epoch
evaluation="$demo --data.train=$digits/val.beton --data.val=$digits/train.beton --train.epochs=60 --train.eval_every=1"
# one thread decodes, and the model is next to nothing
data="--data.train=$photographs/train.beton --data.val=$photographs/val.beton --data.batch_size=48 --data.num_workers=1
    --augment.repeats=1 --model.name=deit_tiny_patch16_224 --model.options=patch_size=56,embed_dim=12,depth=1,num_heads=1
    --train.device=cpu --train.epochs=80 --train.eval_every=20 --train.ema_decay=0 --train.log_every=10
    --schedule.warmup_epochs=2"
# DeiT-Ti as it is
photos="--data.train=$photographs/train.beton --data.val=$photographs/val.beton --data.batch_size=48
    --model.name=deit_tiny_patch16_224 --train.device=cpu --train.epochs=2 --train.ema_decay=0 --train.log_every=5
    --schedule.warmup_epochs=1"

for round in ${ROUNDS:-1 2 3}; do
    for kind in ${KINDS:-compute data evaluation photos}; do
        run="$folder/$kind-$round"
        # shellcheck disable=SC2086  # words are to be split
        deit-fast plan ${!kind} --run.dir="$run" --plan.seconds=40 >"$run.plan.txt"
        # shellcheck disable=SC2086
        python "$here/outside.py" "$folder/outside.jsonl" "$run" deit-fast train ${!kind} --run.dir="$run" >"$run.txt"
    done
done
python "$here/table.py" "$folder"
