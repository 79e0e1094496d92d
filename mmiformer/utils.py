"""What ``mmengine.hub.get_model`` looks for in a package."""


def register_all_modules() -> None:
    """Refuses, since it could only register one framework's modules.

    Raises:
        NotImplementedError: Always; the message says what to do instead.
    """
    raise NotImplementedError(
        'mmengine.hub.get_model builds in the scope of the package, but the '
        'configs of mmiformer are for mmdet, mmseg or mmpretrain. Use '
        "cfg = mmengine.hub.get_config('mmiformer::...'), "
        'init_default_scope(cfg.default_scope) and MODELS.build(cfg.model) of '
        'mmengine.registry')
