# Gradients and optimiser state sharded over the GPUs (ZeRO stage 2), by
# DeepSpeed in mmengine's FlexibleRunner. Single precision: mmdet's heads are
# not written for less without autocast.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    zero_optimization=dict(
        stage=2,
        overlap_comm=True,
        contiguous_gradients=True))
