"""From batches to a trained model.

The way of a run, from the top:

- `loop`: a run from its first step, or its last checkpoint, to its end: epochs, evaluations, checkpoints, the best so far.
- `planning`: what a run asks of its plan and its budget.
- `trainer`: the loaders, and all that a checkpoint holds. `learner`: the model, and all that trains it.
- `step`: one training step, from the batch to the average of the weights.

What a step is made of:

- `objective`: losses, also of distillation. `teacher`: the frozen model of a distillation.
- `optim`: groups of parameters, optimisers, clipping. `lamb`: the optimiser that PyTorch lacks.
- `schedule`: learning rate and resolution at each place. `ema`: the average of the weights.

What a run needs beside:

- `evaluate`: a model, or a file of weights, on a validation set.
- `journal`: what is logged and printed. `run_folder`: where, and which checkpoints stay. `checkpoint`: a checkpoint's file.
- `dist`: ranks and devices. `rendezvous`: how ranks find each other. `stop`: signals. `slurm`: jobs on a cluster.
"""
