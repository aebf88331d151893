#!/usr/bin/env bash
# Distillation, fine-tuning at a higher resolution and transfer on scikit-learn's digits, with deit-fast alone:
#     [EPOCHS=80] digits.sh FOLDER [SEED ...]
# Run it from the repository's root with the virtual environment active. Two runs at a time, each on one core. What is there
# already is not made again. Ends with FOLDER/results.json and a table.
set -euo pipefail
folder=$1
shift
seeds=${*:-0 1 2}
epochs=${EPOCHS:-80} # of a student; 80: the plain ones are the demonstration's
here=$(dirname "$0")
export OMP_NUM_THREADS=1

digits=digits
run() { # NAME OPTION...: a run with demo.yaml on $digits in FOLDER/NAME, with what it prints in FOLDER/NAME.txt
    local name=$1
    shift
    [ -e "$folder/$name/summary.json" ] || deit-fast train --config-file deit_configs/demo.yaml \
        --data.train="$folder/$digits/train.beton" --data.val="$folder/$digits/val.beton" \
        --train.eval_every=10 --train.checkpoint_every=10 --run.dir="$folder/$name" "$@" >"$folder/$name.txt" 2>&1
}
evaluate() { # NAME RUN OPTION...: its last weights, into FOLDER/NAME.eval.json
    local name=$1 trained=$2
    shift 2
    [ -e "$folder/$name.eval.json" ] || deit-fast eval --eval.checkpoint="$folder/$trained/checkpoints/last.pt" \
        --data.val="$folder/digits/val.beton" --data.num_workers=1 --out="$folder/$name.eval.json" "$@"
}
both() { wait "$1"; } # the second of two ran in the foreground; here comes the first

# the digits of the demonstration; "half": those of 0 to 4 alone
if [ ! -e "$folder/half/val.beton" ]; then
    mkdir -p "$folder/half"
    python -c "import sys, pathlib, deit_fast.study.demo as demo; demo.make_digits(pathlib.Path(sys.argv[1]))" "$folder/digits"
    for split in train val; do
        mkdir "$folder/half/$split"
        cp -r "$folder/digits/$split"/[0-4] "$folder/half/$split"
        deit-fast write --source.path="$folder/digits/$split" --write.out="$folder/digits/$split.beton"
        deit-fast write --source.path="$folder/half/$split" --write.out="$folder/half/$split.beton"
    done
fi

# the teacher: a small ResNet without Mixup and CutMix, at 32 pixels, then a little further at 48
convnet=(--model.name=resnet10t --model.options= --model.drop_path=0 --augment.mixup=0 --augment.cutmix=0)
run teacher "${convnet[@]}" --optim.lr=2e-3 --train.epochs=10 --schedule.warmup_epochs=1
run teacher-48 "${convnet[@]}" --optim.lr=1e-3 --train.epochs=5 --schedule.warmup_epochs=0 --train.ema_decay=0 \
    --data.resolution=48 --model.weights="$folder/teacher/checkpoints/last.pt" --model.weights_from=ema

token=(--model.name=deit_tiny_distilled_patch16_224)
hard=(--distil.kind=hard --distil.alpha=0.5 --distil.teacher=resnet10t)
# fine-tuning in evaluation mode, as DeiT does it, from the average of a run's weights. At the rate of the run: with a tenth of
# it for 5 epochs, which are 145 steps, the patches of another scale were not learnt (86.4 % fell to 82 and 85 %)
finetune=(--train.mode=eval --optim.lr=1e-3 --optim.weight_decay=1e-8 --schedule.warmup_epochs=2 --train.epochs=20
    --train.ema_decay=0 --model.weights_from=ema)
# transfer: the same at a rate that a new head can learn with
transfer=(--train.epochs=5 --schedule.warmup_epochs=0 --optim.lr=5e-4 --train.ema_decay=0)

for seed in $seeds; do
    s=--train.seed=$seed
    run "plain-$seed" "$s" --train.epochs="$epochs" &
    run "distilled-$seed" "$s" --train.epochs="$epochs" "${token[@]}" "${hard[@]}" \
        --distil.teacher_weights="$folder/teacher/checkpoints/last.pt"
    both $!
    evaluate "plain-$seed" "plain-$seed" --eval.weights=ema &
    evaluate "distilled-$seed-both" "distilled-$seed" --eval.weights=ema --eval.heads=both --eval.fusion=code
    both $!
    evaluate "distilled-$seed-class" "distilled-$seed" --eval.weights=ema --eval.heads=class &
    evaluate "distilled-$seed-distillation" "distilled-$seed" --eval.weights=ema --eval.heads=distillation
    both $!
    evaluate "distilled-$seed-paper" "distilled-$seed" --eval.weights=ema --eval.heads=both --eval.fusion=paper
done

for seed in $seeds; do
    s=--train.seed=$seed
    plain=--model.weights=$folder/plain-$seed/checkpoints/last.pt
    distilled=--model.weights=$folder/distilled-$seed/checkpoints/last.pt
    run "plain-$seed-48" "$s" "${finetune[@]}" "$plain" --data.resolution=48 &
    run "distilled-$seed-48" "$s" "${finetune[@]}" "$distilled" --data.resolution=48 "${token[@]}" "${hard[@]}" \
        --distil.teacher_weights="$folder/teacher-48/checkpoints/last.pt"
    both $!
    # what fine-tuning does without more pixels, and without the teacher
    run "plain-$seed-32" "$s" "${finetune[@]}" "$plain" &
    run "distilled-$seed-48-labels" "$s" "${finetune[@]}" "$distilled" --data.resolution=48 "${token[@]}"
    both $!
    digits=half run "transfer-$seed" "$s" "${transfer[@]}" "$plain" --model.weights_from=ema --train.mode=eval &
    digits=half run "fresh-$seed" "$s" "${transfer[@]}"
    both $!
done
python "$here/collect.py" "$folder"
