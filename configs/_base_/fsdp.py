# Parameters, gradients and optimiser state sharded over the GPUs, by torch's
# FullyShardedDataParallel in mmengine's FlexibleRunner.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='mmiformer.engine.fsdp.ResumableFSDPStrategy',
    model_wrapper=dict(
        type='MMFullyShardedDataParallel',
        auto_wrap_policy='mmiformer.engine.fsdp.wrap_blocks',
        use_orig_params=True),  # decay differs inside a block
    # Checkpoints are files as without sharding. Every process makes them
    # whole, since each looks at the names when it loads.
    state_dict_cfg=dict(
        state_dict_type='FULL_STATE_DICT',
        state_dict_config=dict(
            type='FullStateDictConfig', rank0_only=False,
            offload_to_cpu=True),
        optim_state_dict_config=dict(
            type='FullOptimStateDictConfig', rank0_only=False,
            offload_to_cpu=True)))
